"""The part of a queue for the tests of an app: jobs without a database or a worker, and what was enqueued."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack

from taskito.client import aio
from taskito.client.base import QueueBase
from taskito.client.options import job_options
from taskito.client.options.job_options import JobOptions
from taskito.client.task import Call
from taskito.client.test_mode.enqueued import EnqueuedJob, Wanted, listed
from taskito.serialization.serializers import load_call
from taskito.worker.child.app import App
from taskito_core.errors import ConfigError
from taskito_core.job import NewJob

if TYPE_CHECKING:
    from taskito.client.test_mode.memory_backends import MemoryBackends


AnyTask = Call[..., Any] | str


class InTestMode(QueueBase):
    """Running jobs in memory, and asserting what was enqueued."""

    _blocks: tuple[MemoryBackends, ...]  #: the ``test_mode`` blocks that are open, innermost last
    _blocks_lock: threading.Lock

    @property
    @abstractmethod
    def _app(self) -> App:
        """The queue itself, as a worker sees it."""

    @property
    def _in_test_mode(self) -> bool:
        return bool(self._blocks)

    @contextmanager
    def test_mode(self, *, run: bool = True) -> Iterator[None]:
        """Inside, jobs live in memory and run at once, in the thread that enqueues; no database is opened.

        Everything else is real: arguments and results go through the serializer, failed attempts are
        retried by the task's policy (without the waiting, as for ``delay`` and ``eta``), middleware
        and hooks are called, and a job's ``result()`` raises what it would raise. What a job
        enqueues runs after it, before the outermost call returns. ``timeout`` and ``soft_timeout`` are as in
        ``run_worker()``. With ``run=False`` jobs only wait until ``drain()``.

        It holds for every thread that uses this queue. Jobs are gone when the block is left; blocks nest.
        Raises ConfigError if taskito-kv, which keeps them in memory, is not installed.
        """
        block = _memory_backends()(self._app, run_at_once=job_options.boolean("run", run))
        with self._blocks_lock:
            self._blocks = (*self._blocks, block)
        try:
            yield
        finally:
            with self._blocks_lock:
                self._blocks = tuple(one for one in self._blocks if one is not block)
            block.forget()

    def drain(self) -> int:
        """Run everything that is pending in this ``test_mode``, and what that enqueues.

        Returns how many attempts were made. RuntimeError outside of ``test_mode``.
        """
        return self._block("drain()").drain()

    adrain = aio.twin(drain)

    def all_enqueued(self) -> list[EnqueuedJob]:
        """What was enqueued in this ``test_mode``, oldest first. RuntimeError outside of it."""
        return [self._enqueued(job) for job in self._block("all_enqueued()").enqueued]

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
        jobs = self._block("assert_enqueued()").enqueued
        wanted = Wanted.read("assert_enqueued()", _name_of(task), args, kwargs, options)
        if not self._matching(jobs, wanted):
            shown = listed([self._enqueued(job) for job in jobs])
            raise AssertionError(f"{wanted} was not enqueued; {shown or 'nothing was'}")

    def refute_enqueued(
        self,
        task: AnyTask | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        """Raise AssertionError if a job was enqueued that agrees with all that is said."""
        jobs = self._block("refute_enqueued()").enqueued
        wanted = Wanted.read("refute_enqueued()", _name_of(task), args, kwargs, options)
        if found := self._matching(jobs, wanted):
            raise AssertionError(f"{wanted} was enqueued; {listed(found)}")

    # ---- inside ----

    def _block(self, what: str) -> MemoryBackends:
        if blocks := self._blocks:
            return blocks[-1]
        raise RuntimeError(f"{what} is only there inside of `with queue.test_mode():`")

    def _matching(self, jobs: Sequence[NewJob], wanted: Wanted) -> list[EnqueuedJob]:
        matching = (job for job in jobs if job_options.agrees(job, wanted.fields))
        return [found for job in matching if wanted.is_call_of(found := self._enqueued(job))]

    def _enqueued(self, job: NewJob) -> EnqueuedJob:
        args, kwargs, _ = load_call(self.serializer_of(job.task_name), job.payload)
        return EnqueuedJob(job.id, job.task_name, tuple(args), kwargs, job_options.said_of(job))


def _name_of(task: AnyTask | None) -> str | None:
    return task.name if isinstance(task, Call) else task


def _memory_backends() -> type[MemoryBackends]:
    try:
        from taskito.client.test_mode.memory_backends import MemoryBackends
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "taskito_kv":
            raise
        raise ConfigError(
            "test_mode() keeps jobs in memory with taskito-kv, which is not installed: "
            "pip install taskito-core[testing]"
        ) from None
    return MemoryBackends
