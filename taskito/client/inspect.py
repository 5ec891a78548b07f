"""What can be asked about jobs, and the async twins of the questions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict, TypeVar, Unpack

from taskito.client import aio, options
from taskito.client.result import JobResult
from taskito.serialization.serializers import Serializer
from taskito_core.errors import ConfigError
from taskito_core.job import AttemptError, DeadLetter, JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_client import Counts, JobFilter
from taskito_core.storage_worker import LogEntry, WorkerInfo

T = TypeVar("T")

MOST_PER_PAGE = 1000


class Stats(TypedDict):
    """How many jobs are in which state."""

    pending: int
    running: int
    complete: int
    completed: int  #: the same number under its old name
    failed: int  #: of the pending ones, those that wait for a retry
    dead: int
    cancelled: int
    capped: bool  #: True if finished jobs were counted up to a limit only; ask with ``exact=True``


class ListPage(list[T]):
    """One page of a list, newest first. ``cursor`` leads to the next page; None: this was the last."""

    cursor: str | None

    def __init__(self, items: Iterable[T], cursor: str | None) -> None:
        super().__init__(items)
        self.cursor = cursor


ListPage.__module__ = Stats.__module__ = "taskito"


class JobQuery(TypedDict, total=False):
    """What ``list_jobs`` can look for; a job is listed if all of it is true."""

    status: JobStatus | str | Iterable[JobStatus | str] | None
    queue: str | None
    task_name: str | None
    created_after: datetime | None  #: at that moment or later; datetimes must know their time zone
    created_before: datetime | None  #: earlier than that
    finished_after: datetime | None
    finished_before: datetime | None
    error: str | None  #: is part of the last error's text, in that case
    metadata: Mapping[str, str | int | float | bool | None] | None  #: has these values
    tag: str | None
    limit: int  #: jobs per page, from 1 to 1000; default 50
    cursor: str | None  #: of the page before


class Reading(ABC):
    """The questions. Each raises StorageUnavailable if the store does not answer."""

    @property
    @abstractmethod
    def storage(self) -> Storage: ...

    @abstractmethod
    def serializer_of(self, task_name: str) -> Serializer:
        """What reads the results of this task."""

    @abstractmethod
    def cancel_job(self, job_id: str) -> bool: ...

    @abstractmethod
    def cancel_running_job(self, job_id: str, *, force: bool = False) -> bool: ...

    @abstractmethod
    def replay(self, job_id: str) -> JobResult[Any]: ...

    @abstractmethod
    def task_logs(self, job_id: str) -> list[LogEntry]: ...

    def get_job(self, job_id: str) -> JobResult[Any] | None:
        """The handle of a job; None if there is none with this id, or no more."""
        found = self.storage.get([options.name("job_id", job_id)])
        return JobResult(self, job_id, found[0]) if found else None

    def list_jobs(self, **query: Unpack[JobQuery]) -> ListPage[JobResult[Any]]:
        """One page of the jobs that match, newest first; pages stay cheap however deep."""
        where, limit, cursor = _filter(query)
        page = self.storage.list_jobs(where, limit, cursor)
        return ListPage((JobResult(self, job.id, job) for job in page.jobs), page.cursor)

    def stats(self, *, exact: bool = False) -> Stats:
        """How many jobs are in which state, over all queues.

        Live states are exact. Finished ones are counted up to 50,000 (``capped`` says if that was
        reached) unless ``exact``, which may have to read every row.
        """
        report = self.storage.counts(exact)
        total = [0] * len(_COUNTED)
        for counts in report.by_queue.values():
            total = [known + getattr(counts, name) for known, name in zip(total, _COUNTED, strict=True)]
        return _stats(Counts(**dict(zip(_COUNTED, total, strict=True))), report.capped)

    def stats_by_queue(self, *, exact: bool = False) -> dict[str, Stats]:
        """``stats`` for each queue that has jobs, by name."""
        report = self.storage.counts(exact)
        return {queue: _stats(counts, report.capped) for queue, counts in sorted(report.by_queue.items())}

    def job_errors(self, job_id: str) -> list[AttemptError]:
        """What went wrong in each failed attempt of a job, oldest first."""
        return self.storage.errors(options.name("job_id", job_id))

    def dead_letters(self, limit: int = 50, cursor: str | None = None) -> ListPage[DeadLetter]:
        """One page of the jobs that failed for good, newest first."""
        page = self.storage.dead_letters(_page_size(limit), cursor)
        return ListPage(page.letters, page.cursor)

    def workers(self) -> list[WorkerInfo]:
        """Every worker the store remembers, alive ones first, then latest seen first."""
        return self.storage.workers()

    async def aget_job(self, job_id: str) -> JobResult[Any] | None:
        return await aio.in_thread(self.get_job, job_id)

    async def alist_jobs(self, **query: Unpack[JobQuery]) -> ListPage[JobResult[Any]]:
        return await aio.in_thread(self.list_jobs, **query)

    async def astats(self, *, exact: bool = False) -> Stats:
        return await aio.in_thread(self.stats, exact=exact)

    async def astats_by_queue(self, *, exact: bool = False) -> dict[str, Stats]:
        return await aio.in_thread(self.stats_by_queue, exact=exact)

    async def ajob_errors(self, job_id: str) -> list[AttemptError]:
        return await aio.in_thread(self.job_errors, job_id)

    async def adead_letters(self, limit: int = 50, cursor: str | None = None) -> ListPage[DeadLetter]:
        return await aio.in_thread(self.dead_letters, limit, cursor)

    async def aworkers(self) -> list[WorkerInfo]:
        return await aio.in_thread(self.workers)


_COUNTED = ("pending", "running", "complete", "failed", "dead", "cancelled")


def _stats(counts: Counts, capped: bool) -> Stats:
    return {
        "pending": counts.pending,
        "running": counts.running,
        "complete": counts.complete,
        "completed": counts.complete,
        "failed": counts.failed,
        "dead": counts.dead,
        "cancelled": counts.cancelled,
        "capped": capped,
    }


def _page_size(limit: object) -> int:
    if (found := options.whole("limit", limit, 1)) > MOST_PER_PAGE:
        raise ConfigError(f"limit must be at most {MOST_PER_PAGE}, got {found}; use the cursor for more")
    return found


def _filter(query: JobQuery) -> tuple[JobFilter, int, str | None]:
    options.refuse_unknown("list_jobs()", query, JobQuery.__annotations__)
    where = JobFilter(
        statuses=_statuses(query.get("status")),
        queue=query.get("queue"),
        task_name=query.get("task_name"),
        created_after=options.moment("created_after", query.get("created_after")),
        created_before=options.moment("created_before", query.get("created_before")),
        finished_after=options.moment("finished_after", query.get("finished_after")),
        finished_before=options.moment("finished_before", query.get("finished_before")),
        error=query.get("error"),
        metadata=dict(query.get("metadata") or {}),
        tag=query.get("tag"),
    )
    return where, _page_size(query.get("limit", 50)), query.get("cursor")


def _statuses(given: JobStatus | str | Iterable[JobStatus | str] | None) -> tuple[JobStatus, ...]:
    if given is None:
        return ()
    try:
        return tuple(map(_status, [given] if isinstance(given, str) else given))
    except (TypeError, ValueError):
        raise ConfigError(f"status must be one or more of {', '.join(JobStatus)}, got {given!r}") from None


def _status(word: JobStatus | str) -> JobStatus:
    return JobStatus("complete" if word == "completed" else word)
