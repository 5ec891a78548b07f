"""What a queue offers to the tests of an app: jobs without a database or a worker, and what was enqueued."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, cast

from taskito.client import aio, options
from taskito.client.enqueue import Producing
from taskito.client.options import JobOptions
from taskito.client.task import Call, call_arguments
from taskito.serialization.serializers import load_call
from taskito_core.errors import ConfigError
from taskito_core.job import NewJob
from taskito_core.limits import CircuitBreaker, RateLimiter
from taskito_core.metrics import Metrics

if TYPE_CHECKING:
    from taskito.client.inline import InlineStorage
    from taskito.client.queue import Queue

#: Jobs that the message of a failed assertion shows.
MOST_SHOWN = 20

AnyTask = Call[..., Any] | str


class EnqueuedJob(NamedTuple):
    """One job that was enqueued inside ``test_mode``."""

    id: str
    task_name: str
    args: tuple[Any, ...]  #: as the task gets them
    kwargs: dict[str, Any]
    options: dict[str, Any]  #: its queue, and what else was said of it, in the words of ``JobOptions``

    def __str__(self) -> str:
        return f"{_call(self.task_name, self.args, self.kwargs)} with {_words(self.options)}"


EnqueuedJob.__module__ = "taskito"


class Rehearsing(Producing):
    """The part of a queue that is for tests."""

    def __init__(self) -> None:
        #: the ``test_mode`` blocks that are open, innermost last
        self._test_modes: tuple[InlineStorage, ...] = ()
        self._test_modes_lock = threading.Lock()

    @contextmanager
    def test_mode(self, *, run: bool = True) -> Iterator[None]:
        """Inside, jobs live in memory and run at once, in the thread that enqueues; no database is opened.

        Everything else is real: arguments and results go through the serializer, failed attempts are
        retried as the task's policy says (without the waiting, as for ``delay`` and ``eta``), middleware
        and hooks are called, and a job's ``result()`` raises what it would raise. What a job
        enqueues runs after it, before the outermost call returns. ``timeout`` and ``soft_timeout`` are as in
        ``run_worker()``. With ``run=False`` jobs only wait until ``drain()``.

        It holds for every thread that uses this queue. Jobs are gone when the block is left; blocks nest.
        """
        from taskito.client.inline import InlineStorage

        mode = InlineStorage(cast("Queue", self), options.boolean("run", run))
        with self._test_modes_lock:
            self._test_modes = (*self._test_modes, mode)
        try:
            yield
        finally:
            with self._test_modes_lock:
                self._test_modes = tuple(one for one in self._test_modes if one is not mode)
            mode.forget()

    def drain(self) -> int:
        """Run everything that is pending in this ``test_mode``, and what that enqueues.

        Returns how many attempts were made. RuntimeError outside of ``test_mode``.
        """
        return self._test_mode("drain()").drain()

    adrain = aio.twin(drain)

    def all_enqueued(self) -> list[EnqueuedJob]:
        """What was enqueued in this ``test_mode``, oldest first. RuntimeError outside of it."""
        return [self._enqueued(job) for job in self._test_mode("all_enqueued()").enqueued]

    def assert_enqueued(
        self,
        task: AnyTask | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        """Raise AssertionError unless a job was enqueued that agrees with all that is said.

        ``task``: a task or its name; ``args`` and ``kwargs``: all of them, as they were passed; options as in
        ``enqueue``. RuntimeError outside of ``test_mode``.
        """
        jobs = self._test_mode("assert_enqueued()").enqueued
        wanted = _Wanted.read("assert_enqueued()", task, args, kwargs, options)
        if not self._matching(jobs, wanted):
            shown = _listed([self._enqueued(job) for job in jobs])
            raise AssertionError(f"{wanted} was not enqueued; {shown or 'nothing was'}")

    def refute_enqueued(
        self,
        task: AnyTask | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        """Raise AssertionError if a job was enqueued that agrees with all that is said."""
        jobs = self._test_mode("refute_enqueued()").enqueued
        wanted = _Wanted.read("refute_enqueued()", task, args, kwargs, options)
        if found := self._matching(jobs, wanted):
            raise AssertionError(f"{wanted} was enqueued; {_listed(found)}")

    # ---- inside ----

    @property
    def sink(self) -> Metrics:
        """In a ``test_mode`` one that is empty: runs in it are not measured."""
        if modes := self._test_modes:
            from taskito_kv.metrics import MemoryMetrics

            return MemoryMetrics(modes[-1].config)
        return super().sink

    def _breaker(self) -> CircuitBreaker:
        if modes := self._test_modes:
            from taskito_kv.limits import MemoryCircuitBreaker

            return MemoryCircuitBreaker(modes[-1].config)
        return super()._breaker()

    def _limiter(self) -> RateLimiter:
        if modes := self._test_modes:
            from taskito_kv.limits import MemoryRateLimiter

            return MemoryRateLimiter(modes[-1].config)
        return super()._limiter()

    def _test_mode(self, what: str) -> InlineStorage:
        if modes := self._test_modes:
            return modes[-1]
        raise RuntimeError(f"{what} is only there inside of `with queue.test_mode():`")

    def _refuse_in_test_mode(self, what: str) -> None:
        if self._test_modes:
            raise ConfigError(
                f"{what} inside of test_mode() would take jobs from the real store; the block runs its own"
            )

    def _matching(self, jobs: Sequence[NewJob], wanted: _Wanted) -> list[EnqueuedJob]:
        matching = (job for job in jobs if options.agrees(job, wanted.fields))
        return [found for job in matching if wanted.is_call_of(found := self._enqueued(job))]

    def _enqueued(self, job: NewJob) -> EnqueuedJob:
        args, kwargs, _ = load_call(self.serializer_of(job.task_name), job.payload)
        return EnqueuedJob(job.id, job.task_name, tuple(args), kwargs, options.said_of(job))


class _Wanted(NamedTuple):
    """What an assertion is about."""

    task_name: str | None
    args: tuple[Any, ...] | None
    kwargs: Mapping[str, Any] | None
    said: Mapping[str, Any]
    fields: Mapping[str, Any]  #: ``said`` as fields of NewJob

    @classmethod
    def read(
        cls,
        where: str,
        task: AnyTask | None,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        said: JobOptions,
    ) -> _Wanted:
        name = task._task.name if isinstance(task, Call) else task
        checked, named = call_arguments(() if args is None else args, kwargs)
        return cls(
            None if name is None else options.name("task", name),
            None if args is None else tuple(checked),
            None if kwargs is None else named,
            said,
            options.job_fields(where, said),
        )

    def is_call_of(self, job: EnqueuedJob) -> bool:
        return (
            self.task_name in (None, job.task_name)
            and self.args in (None, job.args)
            and self.kwargs in (None, job.kwargs)
        )

    def __str__(self) -> str:
        what = "a job" if self.task_name is None else f"a job of task {self.task_name!r}"
        said = [] if self.args is None else [f"args {self.args!r}"]
        said += [] if self.kwargs is None else [f"kwargs {dict(self.kwargs)!r}"]
        said += [_words(self.said)] if self.said else []
        return f"{what} with {' and '.join(said)}" if said else what


def _call(task_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    words = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{task_name}({', '.join(words)})"


def _words(said: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in said.items())


def _listed(jobs: Sequence[EnqueuedJob]) -> str:
    """What was enqueued, a line each; empty for nothing."""
    if not jobs:
        return ""
    lines = [f"  {job!s:.300}" for job in jobs[:MOST_SHOWN]]
    if len(jobs) > MOST_SHOWN:
        lines.append(f"  and {len(jobs) - MOST_SHOWN} more")
    return "\n".join(["there was:", *lines])
