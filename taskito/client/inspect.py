"""The part of a queue that answers questions: about jobs, queues, workers, logs, limits and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, Unpack

from taskito.client import aio
from taskito.client.base import QueueBase
from taskito.client.job_query import MOST_PER_PAGE, JobQuery, page_size, read_query
from taskito.client.metrics import TaskMetrics, summarise
from taskito.client.options import job_options
from taskito.client.results.job_result import JobResult
from taskito.running_job import job_log
from taskito_core.errors import StorageUnavailable, not_found
from taskito_core.job import AttemptError, DeadLetter, Job, JobStatus
from taskito_core.limits import BreakerRecord, QueueLimits
from taskito_core.storage import Storage
from taskito_core.storage_client import Counts, LogFilter, Replay
from taskito_core.storage_worker import LogEntry, Retention, WorkerInfo

if TYPE_CHECKING:
    from taskito.client.explain import JobExplanation, Limits

T = TypeVar("T")


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


class ReplayRecord(NamedTuple):
    """One replay of a job, and what came of it so far."""

    job_id: str  #: the job that was replayed
    new_id: str
    replayed_at: int  #: epoch milliseconds
    status_before: JobStatus
    error_before: str | None
    status: JobStatus | None  #: of the replay; None: it is stored no more
    error: str | None
    result: Any  #: what the replay returned, once it is complete


ListPage.__module__ = Stats.__module__ = ReplayRecord.__module__ = "taskito"


class Inspect(QueueBase):
    """The questions. None of them changes anything."""

    # ---- jobs ----

    def get_job(self, job_id: str) -> JobResult[Any] | None:
        """The handle of a job; None if there is none with this id, or no more."""
        found = self.storage.get([job_options.name("job_id", job_id)])
        return self._handle(job_id, found[0]) if found else None

    def list_jobs(self, **query: Unpack[JobQuery]) -> ListPage[JobResult[Any]]:
        """One page of the jobs that match, newest first; pages stay cheap however deep."""
        page = self.storage.list_jobs(*read_query(query))
        return ListPage((self._handle(job.id, job) for job in page.jobs), page.cursor)

    def job_errors(self, job_id: str) -> list[AttemptError]:
        """What went wrong in each failed attempt of a job, oldest first."""
        return self.storage.errors(job_options.name("job_id", job_id))

    def dead_letters(self, limit: int = 50, cursor: str | None = None) -> ListPage[DeadLetter]:
        """One page of the jobs that failed for good, newest first."""
        page = self.storage.dead_letters(page_size(limit), cursor)
        return ListPage(page.letters, page.cursor)

    def replay_history(self, job_id: str) -> list[ReplayRecord]:
        """Every replay of a job, oldest first, with what came of each."""
        found = self.storage.replays(job_options.name("job_id", job_id))
        replays = [one for one in found if one.job_id == job_id]
        known = {job.id: job for job in self.storage.get([one.new_id for one in replays])}
        return [self._record(one, known.get(one.new_id)) for one in replays]

    # ---- queues and workers ----

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

    def workers(self) -> list[WorkerInfo]:
        """Every worker the store remembers, alive ones first, then latest seen first."""
        return self.storage.workers()

    def paused_queues(self) -> list[str]:
        """The names of the paused queues, sorted."""
        return sorted(self.storage.paused())

    def queue_limits(self) -> dict[str, QueueLimits]:
        """The limits of the queues that have any, by name."""
        return dict(self.storage.queue_limits())

    def retention(self) -> Retention:
        """How long this store keeps what has no time of its own, in seconds; None: for ever."""
        return self.storage.retention()

    # ---- logs ----

    def task_logs(self, job_id: str) -> list[LogEntry]:
        """What a job logged, oldest first."""
        where = LogFilter(job_id=job_options.name("job_id", job_id), levels=job_log.READABLE)
        return list(_all_logs(self.storage, where))

    def query_logs(
        self,
        task_name: str | None = None,
        level: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[LogEntry]:
        """What jobs logged, oldest first: of one task, of one level, since a moment."""
        where = LogFilter(
            task_name=task_name,
            levels=job_log.READABLE
            if level is None
            else (job_options.one_of("level", level, job_log.READABLE),),
            since=job_options.moment("since", since),
        )
        return self.storage.logs(where, job_options.whole("limit", limit, 1))

    # ---- limits and metrics ----

    def circuit_breakers(self) -> list[BreakerRecord]:
        """The circuit breakers that workers have asked so far, by task name."""
        with closing(self.backends.open_breaker()) as breaker:
            return breaker.read()

    def explain(self, job_id: str) -> JobExplanation:
        """Why a job does not run: everything that stands in its way now. ``print`` shows it as text.

        Of its rate limit only a process that has the task can tell. Raises JobNotFoundError.
        """
        # Few ask, and every ``import taskito`` would pay.
        from taskito.client.explain import explain, running_by_queue
        from taskito.worker.dispatch.lanes import is_unread

        found = self.storage.facts(job_options.name("job_id", job_id))
        if found is None:
            raise not_found(job_id)
        workers = self.storage.workers()
        if found.job.status is not JobStatus.PENDING:
            return explain(found, workers)
        if is_unread(found.lane):
            return explain(found, workers, unreadable=self._unreadable(found.job.id))
        limits = self._limits_of(found.lane) if found.lane else None
        running = running_by_queue(self.storage)
        return explain(found, workers, limits, full=self._full(found.job.queue), running=running)

    def metrics(self, task_name: str | None = None, since: float | timedelta = 3600) -> list[TaskMetrics]:
        """What the attempts of the last ``since`` seconds took: one record per task, by name.

        ``task_name``: of this task only; [] if it has not run. Workers write about once a second, whole
        minutes are read, and those of the last seven days are there. Raises ConfigError if no
        metrics are kept.
        """
        wanted = None if task_name is None else job_options.name("task_name", task_name)
        return summarise(self.sink.read(wanted, job_options.seconds("since", since)))

    # ---- inside ----

    def _unreadable(self, job_id: str) -> str | None:
        """What a worker said last of arguments that it cannot read."""
        where = LogFilter(job_id=job_id, levels=(job_log.UNREADABLE_LEVEL,))
        lines = self.storage.logs(where, 1000)
        said = [entry.message for entry in lines if job_log.unreadable_by(entry) is not None]
        return said[-1] if said else None

    def _full(self, queue: str) -> int | None:
        """The concurrency of a queue of which as many jobs run; None: it has none, or there is room."""
        concurrency = self.storage.queue_limits().get(queue, QueueLimits()).concurrency
        if concurrency is None:
            return None
        counts = self.storage.counts().by_queue.get(queue)
        return concurrency if counts is not None and counts.running >= concurrency else None

    def _record(self, one: Replay, replay: Job | None) -> ReplayRecord:
        result = None
        if one.result is not None and replay is not None:
            result = self.serializer_of(replay.task_name).loads(one.result)
        return ReplayRecord(*one[:-1], result)

    def _limits_of(self, task_name: str) -> Limits:
        from taskito.client.explain import Limits

        # Workers start nothing of a task whose limits cannot be asked, so that is an answer too.
        try:
            breakers = {one.task_name: one for one in self.circuit_breakers()}
            return Limits(breakers.get(task_name), self._token_in(task_name))
        except StorageUnavailable as exc:
            return Limits(unreachable=str(exc))

    def _token_in(self, task_name: str) -> float:
        """Seconds until its rate lets a job of the task start; 0.0 for a task this process does not know."""
        task = self.tasks.get(task_name)
        if task is None or task.policy.rate_limit is None:
            return 0.0
        with closing(self.backends.open_limiter()) as limiter:
            return limiter.acquire({task_name: (0, task.policy.rate_limit)})[task_name].retry_after

    # ---- async twins ----

    aget_job = aio.twin(get_job)
    alist_jobs = aio.twin(list_jobs)
    astats = aio.twin(stats)
    astats_by_queue = aio.twin(stats_by_queue)
    ajob_errors = aio.twin(job_errors)
    adead_letters = aio.twin(dead_letters)
    aworkers = aio.twin(workers)
    atask_logs = aio.twin(task_logs)
    aquery_logs = aio.twin(query_logs)
    areplay_history = aio.twin(replay_history)
    apaused_queues = aio.twin(paused_queues)
    aqueue_limits = aio.twin(queue_limits)
    aretention = aio.twin(retention)
    acircuit_breakers = aio.twin(circuit_breakers)
    aexplain = aio.twin(explain)
    ametrics = aio.twin(metrics)


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


def _all_logs(storage: Storage, where: LogFilter) -> Iterator[LogEntry]:
    """Every entry that matches, page by page."""
    after: str | None = None
    while True:
        page = storage.logs(LogFilter(job_id=where.job_id, levels=where.levels, after=after), MOST_PER_PAGE)
        yield from page
        if len(page) < MOST_PER_PAGE:
            return
        after = page[-1].id
