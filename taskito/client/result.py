"""The handle of one job: where it is, and what came of it."""

from __future__ import annotations

import json
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskito.client import aio
from taskito.running_job.job_log import PUBLISHED
from taskito.serialization.serializers import DEFAULT
from taskito_core.errors import (
    ConfigError,
    MaxRetriesExceededError,
    TaskCancelledError,
    TaskFailedError,
    TaskitoError,
    TaskTimeoutError,
    not_found,
)
from taskito_core.job import AttemptError, DeadReason, ErrorKind, Job, JobStatus
from taskito_core.storage_client import Edge, LogFilter
from taskito_core.storage_worker import LogEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from taskito.client.inspect import Reading

R_co = TypeVar("R_co", covariant=True)

#: Log entries that one look of ``stream`` reads.
_PAGE = 1000
#: Seconds after which a wait looks up, so that a thread whose coroutine was cancelled ends.
_GLANCE = 5.0


class JobResult(Generic[R_co]):
    """One job, by its id. What can change is read from the store each time, until the job has finished.

    Everything but ``id`` may raise JobNotFoundError (the job was pruned) and StorageUnavailable.
    """

    __slots__ = ("_job", "_reader", "id")

    def __init__(self, reader: Reading, job_id: str, job: Job | None = None) -> None:
        self.id = job_id
        self._reader = reader
        self._job = job

    @property
    def status(self) -> JobStatus:
        return self._latest().status

    @property
    def error(self) -> str | None:
        """``Type: message`` of the last failed attempt, if there was one."""
        return self._latest().error

    @property
    def errors(self) -> list[AttemptError]:
        """What went wrong in each failed attempt, oldest first."""
        return self._reader.storage.errors(self.id)

    @property
    def progress(self) -> float | None:
        """How far it is, as the task last said; by custom 0 to 100."""
        return self._latest().progress

    @property
    def dependencies(self) -> list[str]:
        """Ids of the jobs it depends on."""
        return sorted(edge.parent_id for edge in self._edges() if edge.job_id == self.id)

    @property
    def dependents(self) -> list[str]:
        """Ids of the jobs that depend on it."""
        return sorted(edge.job_id for edge in self._edges() if edge.parent_id == self.id)

    @property
    def metadata(self) -> dict[str, Any]:
        """What was given when the job was enqueued; it never changes."""
        return _read_metadata(self._known())

    def refresh(self) -> JobResult[R_co]:
        """Read the job anew; returns itself."""
        found = self._reader.storage.get([self.id])
        if not found:
            self._job = None
            raise not_found(self.id)
        [self._job] = found
        return self

    async def arefresh(self) -> JobResult[R_co]:
        return await aio.in_thread(self.refresh)

    def result(self, timeout: float | None = 30.0) -> R_co:
        """What the task returned; waits for it up to ``timeout`` seconds (None: for ever).

        Returns the moment the job ends, and at once if it has. Raises TaskFailedError (its subclass
        MaxRetriesExceededError if the retries were used up), TaskTimeoutError, TaskCancelledError,
        JobNotFoundError, SerializationError, or the builtin TimeoutError when time is up, which
        changes nothing about the job.
        """
        return self._result(deadline(timeout), timeout, None)

    async def aresult(self, timeout: float | None = 30.0) -> R_co:
        """``result`` without blocking the event loop."""
        abandoned = threading.Event()
        try:
            return await aio.in_own_thread(self._result, deadline(timeout), timeout, abandoned)
        finally:
            abandoned.set()

    def cancel(self, *, force: bool = False) -> bool:
        """Cancel the job if it is pending, or ask it to stop if it runs; False if it has ended.

        ``force``: break into it if it runs; see ``queue.cancel_running_job``.
        """
        reader = self._reader
        while not reader.cancel_job(self.id):
            if reader.cancel_running_job(self.id, force=force):
                return True
            if self.refresh().status.finished:
                return False
        return True

    def replay(self) -> JobResult[R_co]:
        """Run this finished job again, as a new job; its handle."""
        return self._reader.replay(self.id)

    def logs(self) -> list[LogEntry]:
        """What the job logged, oldest first."""
        return self._reader.task_logs(self.id)

    def stream(self, timeout: float | None = None) -> Iterator[Any]:
        """What the task publishes, from its first value on, as it does; ends when the job has.

        ``timeout``: seconds to wait for each next value, then TimeoutError; None: for ever. A retry
        publishes anew.
        """
        return self._stream(timeout, None)

    async def astream(self, timeout: float | None = None) -> AsyncIterator[Any]:
        """``stream`` without blocking the event loop."""
        abandoned = threading.Event()
        values = self._stream(timeout, abandoned)
        nothing = object()
        try:
            while (value := await aio.in_own_thread(next, values, nothing)) is not nothing:
                yield value
        finally:
            abandoned.set()

    def _stream(self, timeout: float | None, abandoned: threading.Event | None) -> Iterator[Any]:
        seen: str | None = None
        while True:
            # In this order: what was said before the end is in the store before the end is.
            ended = self.refresh().status.finished
            page = self._reader.storage.logs(LogFilter(job_id=self.id, after=seen), _PAGE)
            for entry in page:
                seen = entry.id
                if entry.level == PUBLISHED and entry.extra is not None:
                    yield DEFAULT.loads(entry.extra.encode())
            if page:
                continue
            if ended:
                return
            self._await_news(seen, timeout, abandoned)

    async def acancel(self, *, force: bool = False) -> bool:
        return await aio.in_thread(self.cancel, force=force)

    async def areplay(self) -> JobResult[R_co]:
        return await aio.in_thread(self.replay)

    async def alogs(self) -> list[LogEntry]:
        return await aio.in_thread(self.logs)

    def to_dict(self) -> dict[str, Any]:
        """The job as last read, in values that JSON can hold; times in epoch milliseconds."""
        job = self._known()
        return {
            "id": job.id,
            "task_name": job.task_name,
            "queue": job.queue,
            "status": str(job.status),
            "error": job.error,
            "priority": job.priority,
            "retry_count": job.retry_count,
            "max_retries": job.max_retries,
            "crashes": job.crashes,
            "interruptions": job.interruptions,
            "timeout": job.timeout,
            "result_ttl": job.result_ttl,
            "worker": job.worker,
            "created_at": job.created_at,
            "scheduled_at": job.scheduled_at,
            "claimed_at": job.claimed_at,
            "started_at": job.started_at,
            "completed_at": job.completed_at,
            "expires_at": job.expires_at,
            "unique_key": job.unique_key,
            "concurrency_key": job.concurrency_key,
            "progress": job.progress,
            "waits_behind": job.gate,
            "metadata": _read_metadata(job),
            "tags": list(job.tags),
        }

    def _edges(self) -> list[Edge]:
        return self._reader.storage.edges([self.id])

    def _await_news(self, seen: str | None, timeout: float | None, abandoned: threading.Event | None) -> None:
        until = deadline(timeout)
        while not self._reader.storage.await_logs(self.id, seen, min(_GLANCE, until - time.monotonic())):
            if time.monotonic() >= until or (abandoned is not None and abandoned.is_set()):
                raise TimeoutError(f"job {self.id} published nothing for {timeout} seconds")

    def _known(self) -> Job:
        """The job as last read."""
        if self._job is None:
            self.refresh()
        assert self._job is not None
        return self._job

    def _latest(self) -> Job:
        """The job as it is now. No move leads out of a finished state, so that is read only once."""
        if self._job is None or not self._job.status.finished:
            self.refresh()
        return self._known()

    def _result(self, until: float, timeout: float | None, abandoned: threading.Event | None) -> R_co:
        job = self._finished(until, timeout, abandoned)
        if job.status is JobStatus.COMPLETE:
            serializer = self._reader.serializer_of(job.task_name)
            value: R_co = None if job.result is None else serializer.loads(job.result)  # type: ignore[assignment]
            return value
        if job.status is JobStatus.CANCELLED:
            raise TaskCancelledError(
                f"job {job.id} of task {job.task_name!r} was cancelled: {job.error or ''}"
            )
        raise self._failure(job)

    def _finished(self, until: float, timeout: float | None, abandoned: threading.Event | None) -> Job:
        while not (job := self._latest()).status.finished:
            remaining = until - time.monotonic()
            if remaining <= 0 or (abandoned is not None and abandoned.is_set()):
                failed = f"; its last attempt failed with {job.error}" if job.error else ""
                raise TimeoutError(
                    f"job {job.id} of task {job.task_name!r} is still {job.status} "
                    f"after {timeout} seconds{failed}"
                )
            self._reader.storage.await_finished(self.id, min(remaining, _GLANCE))
        return job

    def _failure(self, job: Job) -> TaskitoError:
        """The exception that says why a dead job died."""
        errors = self.errors
        what = f"job {job.id} of task {job.task_name!r}"
        if not errors:
            return TaskFailedError(f"{what} failed: {job.error or 'no error was recorded'}")
        last = errors[-1]
        failure: TaskitoError
        if last.kind is ErrorKind.TIMEOUT:
            failure = TaskTimeoutError(f"{what} ran out of time: {last.message or last.type}")
        else:
            cls = MaxRetriesExceededError if self._used_up_retries() else TaskFailedError
            said = f"{last.type}: {last.message}" if last.message else last.type
            times = f" after {len(errors)} attempts" if len(errors) > 1 else ""
            failure = cls(
                f"{what} failed{times}: {said}", type_name=last.type, remote_traceback=last.traceback
            )
        if last.traceback:
            failure.add_note(f"In the worker:\n{last.traceback}")
        return failure

    def _used_up_retries(self) -> bool:
        return [letter.reason for letter in self._reader.storage.letters([self.id])] == [DeadReason.RETRIES]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        seen = f" ({self._job.task_name}, {self._job.status} when last read)" if self._job else ""
        return f"<JobResult {self.id}{seen}>"


JobResult.__module__ = "taskito"


def _read_metadata(job: Job) -> dict[str, Any]:
    return json.loads(job.metadata) if job.metadata else {}


def deadline(timeout: float | None) -> float:
    """When a wait that begins now is over, on the monotonic clock."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ConfigError(f"timeout must be a number of seconds of 0 or more, or None, got {timeout!r}")
    return time.monotonic() + timeout
