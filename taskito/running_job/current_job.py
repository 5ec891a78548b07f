"""What a task can know of its own run, and say about it: ``current_job``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from taskito.coerce import duration
from taskito.running_job import job_context, job_log
from taskito.running_job.job_context import JobContext
from taskito.serialization.serializers import json_of
from taskito_core import messages
from taskito_core.errors import ConfigError, JobCancelled, SoftTimeoutError

if TYPE_CHECKING:
    from typing import NoReturn

T = TypeVar("T")

#: Seconds between two reports of ``track``.
TRACK_INTERVAL = 0.5


class SnoozeRequest(BaseException):
    """Ends a run that called ``snooze``. No Exception: a task that catches those lets it through."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"to be run again in {delay:g} s")
        self.delay = delay


class CurrentJob:
    """Stands for the job that runs here and now. Outside a task every use raises RuntimeError."""

    __slots__ = ()

    @property
    def context(self) -> JobContext:
        """The record behind this name: keep it if it has to outlive the task."""
        if (context := job_context.current()) is None:
            raise RuntimeError(
                "current_job is only there inside a running task; a thread that a task starts sees it "
                "if it runs in a copy of the task's context (contextvars.copy_context)"
            )
        return context

    @property
    def id(self) -> str:
        """The job's id: the same in every attempt, so a key that makes effects idempotent."""
        return self.context.id

    @property
    def task_name(self) -> str:
        """The name under which its task is registered."""
        return self.context.task_name

    @property
    def queue_name(self) -> str:
        """The queue it was claimed from."""
        return self.context.queue_name

    @property
    def retry_count(self) -> int:
        """Failed attempts before this one."""
        return self.context.retry_count

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1 on; also crashes and interruptions were attempts."""
        return self.context.attempt

    @property
    def token(self) -> int:
        """A fencing token: no other attempt has it."""
        return self.context.token

    @property
    def metadata(self) -> dict[str, Any]:
        """What ``enqueue(metadata=...)`` was given; changing it changes nothing stored."""
        return self.context.metadata

    # ---- while it runs ----

    def update_progress(self, progress: float) -> None:
        """Say how far the job is, by custom from 0 to 100. Cheap: only the newest is stored, in batches."""
        self.context.controls.note(job_log.progress(progress))

    def track(self, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Iterate, and report progress from 0 to 100 on the way, twice a second at most.

        ``total``: how many items; default ``len(items)``. Without either nothing is reported before the end.
        Raises JobCancelled before the next item if the job was asked to cancel.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        due = 0.0
        for done, item in enumerate(items):
            self.check_cancelled()
            if total and (now := time.monotonic()) >= due:
                self.update_progress(100.0 * done / total)
                due = now + TRACK_INTERVAL
            yield item
        self.update_progress(100.0)

    def log(self, message: str, level: str = "info", extra: Any = None) -> None:
        """Keep a line with the job: ``queue.task_logs(id)`` reads it. ``extra``: plain JSON values.

        ``level`` is debug, info, warning, error or critical. Stored in batches, before the job's outcome.
        """
        self.context.controls.note(job_log.log(message, level, extra))

    def publish(self, data: Any) -> None:
        """Send a partial result to those who iterate over ``job.stream()``; any value a result may be."""
        controls = self.context.controls
        controls.note(job_log.published(json_of(controls.serializer).dumps(data)))

    def check_cancelled(self) -> None:
        """Raise JobCancelled if the job was asked to cancel; to be let through."""
        if self.context.controls.cancel_asked():
            raise JobCancelled(messages.CANCELLED_ON_REQUEST)

    def check_timeout(self) -> None:
        """Raise SoftTimeoutError if the soft limit has passed; for threads, where nothing else raises it."""
        deadline = self.context.soft_deadline
        if deadline is not None and time.monotonic() >= deadline:
            raise SoftTimeoutError("the task ran longer than its soft_timeout")

    def snooze(self, seconds: float) -> NoReturn:
        """End this run here; the job runs again in ``seconds``. No failure, and nothing is charged."""
        try:
            raise SnoozeRequest(duration(seconds))
        except (TypeError, ValueError):
            raise ConfigError(f"snooze() takes a number of seconds of 0 or more, got {seconds!r}") from None

    def complete_in(self, connection: object, result: Any = None) -> None:
        """Record that the job completed with ``result``, in a transaction of the caller's own.

        The outcome then commits with the task's own writes, or neither does. ``connection`` is an open one
        to the store's database (the driver's, or SQLAlchemy's connection or session); committing stays the
        task's business, and must happen before it returns. Raises StorageError if the job is another
        worker's by now: then roll back.
        """
        self.context.controls.complete_in(connection, result)

    @contextmanager
    def keep_coroutines(self) -> Iterator[None]:
        """Coroutines that are started inside, and those that they start, go on when the job has ended.

        All others are cancelled then. For what an app keeps in the event loop on purpose, as a pool of
        connections with its workers: it goes on whenever a job runs in the same loop. Outside a task this
        does nothing.
        """
        token = job_context.KEPT.set(True)
        try:
            yield
        finally:
            job_context.KEPT.reset(token)

    def __bool__(self) -> bool:
        """True inside a task; this may be asked anywhere."""
        return job_context.current() is not None

    def __repr__(self) -> str:
        context = job_context.current()
        return f"<current_job {context!r}>" if context else "<current_job: not inside a task>"


CurrentJob.__module__ = "taskito"

#: The job that runs here and now.
current_job = CurrentJob()
