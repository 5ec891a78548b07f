"""The handle of one job: where it is, and what came of it."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from taskito.client import aio
from taskito.client.aio import EndListener, Wait
from taskito.client.results.job_end import CHECK_INTERVAL, await_finished, is_over
from taskito.running_job.job_log import PUBLISHED
from taskito.serialization.serializers import DEFAULT, Serializer, json_of
from taskito_core import messages
from taskito_core.errors import (
    JobNotFoundError,
    MaxRetriesExceededError,
    TaskCancelledError,
    TaskFailedError,
    TaskitoError,
    TaskTimeoutError,
    not_found,
)
from taskito_core.job import AttemptError, DeadReason, ErrorKind, Job, JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_client import Edge, LogFilter
from taskito_core.storage_worker import LogEntry

if TYPE_CHECKING:
    from taskito.serialization.shown import Parameters

R_co = TypeVar("R_co", covariant=True)

#: Log entries that ``stream`` reads at once.
_PAGE = 1000
#: Bytes of a result that the event loop may read itself.
_QUICKLY_READ = 4096
#: What the store says of a job that was cancelled because of another, which it names.
_PARENT_FAILED = re.compile(messages.PARENT_FAILED.format(parent="(.+)", status=r"\w+"))


class JobReader(Protocol):
    """What a handle reads its job from, and acts on it with: the queue."""

    @property
    def storage(self) -> Storage: ...

    @property
    def end_listener(self) -> EndListener | None:
        """What coroutines wait for jobs with; None: who waits runs the job, in a thread of its own."""
        ...

    def serializer_of(self, task_name: str, /) -> Serializer:
        """What reads the results of this task."""
        ...

    def parameters_of(self, task_name: str, /) -> Parameters:
        """What the function of this task calls its positional arguments."""
        ...

    def cancel_job(self, job_id: str, /) -> bool: ...

    def cancel_running_job(self, job_id: str, /, *, force: bool = False) -> bool: ...

    def replay(self, job_id: str, /) -> JobResult[Any]: ...

    def task_logs(self, job_id: str, /) -> list[LogEntry]: ...


class JobResult(Generic[R_co]):
    """One job, by its id. What can change is read from the store each time, until the job has finished.

    Everything but ``id`` may raise JobNotFoundError (the job was pruned) and StorageUnavailable.
    """

    __slots__ = ("_job", "_reader", "id")

    def __init__(self, reader: JobReader, job_id: str, job: Job | None = None) -> None:
        self.id = job_id
        self._reader = reader
        self._job = job

    @property
    def status(self) -> JobStatus:
        """Where it is now: pending, running, complete, dead or cancelled."""
        return self._latest().status

    @property
    def error(self) -> str | None:
        """``Type: message`` of the last failed attempt, if there was one; None once the job is complete."""
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
    def replays(self) -> list[str]:
        """Ids of the jobs that ran it again, oldest first."""
        return [one.new_id for one in self._reader.storage.replays(self.id) if one.job_id == self.id]

    @property
    def replay_of(self) -> str | None:
        """Id of the job that it runs again, if that is remembered."""
        found = [one.job_id for one in self._reader.storage.replays(self.id) if one.new_id == self.id]
        return found[0] if found else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What was given when the job was enqueued; it never changes."""
        from taskito.client.results.shown import read_metadata

        return read_metadata(self._known())

    def refresh(self) -> JobResult[R_co]:
        """Read the job anew; returns itself."""
        found = self._reader.storage.get([self.id])
        self._job = found[0] if found else None
        if self._job is None:
            raise not_found(self.id)
        return self

    arefresh = aio.twin(refresh)

    def result(self, timeout: float | None = 30.0) -> R_co:
        """What the task returned; waits for it up to ``timeout`` seconds (None: for ever).

        Returns the moment the job ends, and at once if it has. Raises TaskFailedError (its subclass
        MaxRetriesExceededError if the retries were used up), TaskTimeoutError, TaskCancelledError,
        JobNotFoundError, SerializationError, or the builtin TimeoutError when time is up, which
        changes nothing about the job. A store that does not answer is waited for; StorageUnavailable is
        raised if it is still away when time is up.
        """
        return self._value(Wait(timeout))

    async def aresult(self, timeout: float | None = 30.0) -> R_co:
        """``result`` without blocking the event loop."""
        wait = Wait(timeout)
        listener = self._reader.end_listener
        try:
            if listener is None:
                return await aio.in_own_thread(self._value, wait)
            if self._job is None or not self._job.status.finished:
                self._job = await listener.ended(self.id, wait) or self._job
                if self._job is not None and _is_quickly_read(self._reader, self._job):
                    value: R_co = value_of(self._reader, self._job)
                    return value
            # What has not ended by now is not stored, or late: the last answer is the store's.
            wait.abandoned.set()
            return await aio.in_thread(self._value, wait)
        finally:
            wait.abandoned.set()

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
        return self._stream(timeout, threading.Event())

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

    def _stream(self, timeout: float | None, abandoned: threading.Event) -> Iterator[Any]:
        seen: str | None = None
        while True:
            # In this order: what was said before the end is in the store before the end is.
            ended = self.refresh().status.finished
            page = self._reader.storage.logs(LogFilter(job_id=self.id, after=seen), _PAGE)
            for entry in page:
                seen = entry.id
                if entry.level == PUBLISHED and entry.extra is not None:
                    yield json_of(self._reader.serializer_of(entry.task_name)).loads(entry.extra.encode())
            if page:
                continue
            if ended:
                return
            self._await_logs(seen, Wait(timeout, abandoned))

    acancel = aio.twin(cancel)
    areplay = aio.twin(replay)
    alogs = aio.twin(logs)

    def to_dict(self) -> dict[str, Any]:
        """The job as last read, in values that JSON can hold; moments in ISO 8601, UTC.

        ``args``, ``kwargs`` and ``result`` are to be looked at: cut short, with ``***`` for what has a name
        like password or token. A text in place of them says why they cannot be read here.
        """
        from taskito.client.results.shown import show_job

        return show_job(self._reader, self._known())

    def _edges(self) -> list[Edge]:
        return self._reader.storage.edges([self.id])

    def _await_logs(self, seen: str | None, wait: Wait) -> None:
        """Return when there is a log entry after ``seen``, or the job has ended. Raises TimeoutError."""
        storage = self._reader.storage
        while not storage.await_logs(self.id, seen, min(CHECK_INTERVAL, max(0.0, wait.remaining))):
            if wait.remaining <= 0:
                raise TimeoutError(f"job {self.id} published nothing for {wait.timeout} seconds")

    def _known(self) -> Job:
        """The job as last read."""
        if self._job is None:
            self.refresh()
        assert self._job is not None
        return self._job

    def _latest(self) -> Job:
        """The job as it is now. What cannot change any more is read only once."""
        if self._job is None or not is_over(self._job):
            self.refresh()
        return self._known()

    def _value(self, wait: Wait) -> R_co:
        return wait.ride_out(functools.partial(self._value_now, wait))

    def _value_now(self, wait: Wait) -> R_co:
        try:
            self._job = await_finished(self._reader, self.id, self._job, wait)
        except JobNotFoundError:
            self._job = None
            raise
        value: R_co = value_of(self._reader, self._job)
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        seen = f" ({self._job.task_name}, {self._job.status} when last read)" if self._job else ""
        return f"<JobResult {self.id}{seen}>"


JobResult.__module__ = "taskito"


def value_of(reader: JobReader, job: Job) -> Any:
    """What a finished job returned. Raises TaskFailedError and its like for one that returned nothing."""
    if job.status is JobStatus.COMPLETE:
        return None if job.result is None else reader.serializer_of(job.task_name).loads(job.result)
    if job.status is JobStatus.CANCELLED:
        said = f"job {job.id} of task {job.task_name!r} was cancelled: {job.error or ''}"
        first = _first_to_fail(reader.storage, job)
        if first is None:
            raise TaskCancelledError(said)
        if first.status is JobStatus.DEAD:
            failure = _failure(reader.storage, first)
            raise TaskCancelledError(f"{said}; {failure}") from failure
        cause = f"job {first.id} of task {first.task_name!r} was {first.status}: {first.error or ''}"
        raise TaskCancelledError(f"{said}; {cause}")
    raise _failure(reader.storage, job)


def _is_quickly_read(reader: JobReader, job: Job) -> bool:
    """Is its value had without asking the store, and sooner than another thread would have it?"""
    if job.status is not JobStatus.COMPLETE or len(job.result or b"") > _QUICKLY_READ:
        return False
    return reader.serializer_of(job.task_name) is DEFAULT


def _first_to_fail(storage: Storage, job: Job) -> Job | None:
    """The job because of which this one was cancelled, however many steps before it.

    None: it was cancelled for itself, or nothing is left of that job.
    """
    first = None
    while (job.status is JobStatus.CANCELLED) and (named := _PARENT_FAILED.fullmatch(job.error or "")):
        found = storage.get([named[1]])
        if not found:
            break
        [job] = [first] = found
    return first


def _failure(storage: Storage, job: Job) -> TaskitoError:
    """The exception that says why a dead job died."""
    errors = storage.errors(job.id)
    what = f"job {job.id} of task {job.task_name!r}"
    if not errors:
        return TaskFailedError(f"{what} failed: {job.error or 'no error was recorded'}")
    last = errors[-1]
    failure: TaskitoError
    if last.kind is ErrorKind.TIMEOUT:
        failure = TaskTimeoutError(f"{what} ran out of time: {last.message or last.type}")
    else:
        cls = MaxRetriesExceededError if _used_up_retries(storage, job) else TaskFailedError
        said = f"{last.type}: {last.message}" if last.message else last.type
        times = f" after {len(errors)} attempts" if len(errors) > 1 else ""
        failure = cls(f"{what} failed{times}: {said}", type_name=last.type, remote_traceback=last.traceback)
    if last.traceback:
        failure.add_note(f"In the worker:\n{last.traceback}")
    return failure


def _used_up_retries(storage: Storage, job: Job) -> bool:
    return [letter.reason for letter in storage.letters([job.id])] == [DeadReason.RETRIES]
