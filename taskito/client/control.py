"""What can be done with jobs, queues and periodic tasks that are in the store; and the async twins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from taskito.client import aio, options
from taskito.client.inspect import MOST_PER_PAGE, Reading
from taskito.client.limiting import Limiting
from taskito.client.options import Seconds
from taskito.client.result import JobResult
from taskito.running_job import job_log
from taskito_core.errors import ConfigError, JobNotFoundError, TaskitoError, not_found
from taskito_core.job import Job, JobStatus, NewJob, new_id
from taskito_core.storage_client import LogFilter, Replay
from taskito_core.storage_worker import LogEntry, PeriodicState, Progress

#: Jobs deleted by one transaction of ``purge_completed`` and ``purge_dead``.
PURGE_BATCH = 500
#: The ``error`` of a job that was cancelled before it began.
CANCELLED = "cancelled: somebody asked for it before it began"


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


ReplayRecord.__module__ = "taskito"


class Acting(Limiting):
    """Each raises StorageUnavailable if the store does not answer."""

    # ---- jobs ----

    def cancel_job(self, job_id: str) -> bool:
        """Cancel a pending job, and the jobs that depend on it; False if it is not pending.

        Raises JobNotFoundError if there is no such job.
        """
        if self.storage.cancel([options.name("job_id", job_id)], CANCELLED):
            return True
        self._existing(job_id)
        return False

    def cancel_running_job(self, job_id: str, *, force: bool = False) -> bool:
        """Ask a running job to stop; False if it is not running. Does not wait.

        The task sees it in ``current_job.check_cancelled()`` and ``track()``. With ``force`` JobCancelled is
        raised in it, wherever it is (not in a pool of threads). It ends as cancelled when it lets that
        through; until then it runs. An attempt that fails instead is not retried. Raises JobNotFoundError.
        """
        if self.storage.ask_to_cancel([options.name("job_id", job_id)], options.boolean("force", force)):
            return True
        self._existing(job_id)
        return False

    def update_progress(self, job_id: str, progress: float) -> None:
        """Say how far a job is, from outside; inside of a task it is ``current_job.update_progress``."""
        _, value = job_log.progress(progress)
        job = self._existing(job_id)
        self.storage.note([Progress(job.id, value)])

    def replay(self, job_id: str) -> JobResult[Any]:
        """Run a finished job again, as a new job with the same arguments and options; its handle.

        Raises JobNotFoundError for an unknown job, TaskitoError for one that has not finished.
        """
        return self._again(job_id, self.storage.replay, "only a finished job can be replayed")

    def retry_dead(self, job_id: str) -> JobResult[Any]:
        """Run a dead job again, as a new job, and drop its letter; the new job's handle.

        Also if only the letter is left of it. Raises JobNotFoundError for an unknown job, TaskitoError for
        one without a letter.
        """
        return self._again(job_id, self.storage.retry_dead, "it is not in the dead letter")

    def delete_dead(self, job_id: str) -> bool:
        """Delete a dead job with its letter and all that belongs to it; False if it is not dead."""
        job_id = options.name("job_id", job_id)
        return bool(self.storage.letters([job_id])) and bool(self.storage.delete([job_id]))

    def replay_history(self, job_id: str) -> list[ReplayRecord]:
        """Every replay of a job, oldest first, with what came of each."""
        replays = self.storage.replays(options.name("job_id", job_id))
        known = {job.id: job for job in self.storage.get([one.new_id for one in replays])}
        return [self._record(one, known.get(one.new_id)) for one in replays]

    def purge_completed(self, older_than: Seconds) -> int:
        """Delete completed jobs that ended longer ago than this, with all that belongs to them; how many.

        In short transactions, so a worker at full load hardly notices. Parents of live jobs are kept.
        """
        return self._purge(JobStatus.COMPLETE, older_than)

    def purge_dead(self, older_than: Seconds) -> int:
        """The same for dead jobs and their letters."""
        return self._purge(JobStatus.DEAD, older_than)

    # ---- logs ----

    def task_logs(self, job_id: str) -> list[LogEntry]:
        """What a job logged, oldest first."""
        where = LogFilter(job_id=options.name("job_id", job_id), levels=job_log.READABLE)
        return list(_all_logs(self, where))

    def query_logs(
        self,
        task_name: str | None = None,
        level: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[LogEntry]:
        """What jobs logged, oldest first: of one task, of one level, since a moment."""
        if level is not None and level not in job_log.READABLE:
            raise ConfigError(f"level must be one of {', '.join(job_log.READABLE)}, got {level!r}")
        where = LogFilter(
            task_name=task_name,
            levels=job_log.READABLE if level is None else (level,),
            since=options.moment("since", since),
        )
        return self.storage.logs(where, options.whole("limit", limit, 1))

    # ---- queues ----

    def pause(self, queue: str = "default") -> bool:
        """Have no worker claim from a queue any more, from its next claim on; False if it was paused.

        Running jobs go on, new ones are stored. Survives restarts.
        """
        return self.storage.pause(options.queue_name("queue", queue))

    def resume(self, queue: str = "default") -> bool:
        """Undo ``pause``; False if the queue was not paused."""
        return self.storage.resume(options.queue_name("queue", queue))

    def paused_queues(self) -> list[str]:
        """The names of the paused queues, sorted."""
        return sorted(self.storage.paused())

    # ---- periodic tasks ----

    def periodic_tasks(self) -> list[PeriodicState]:
        """Every periodic task that workers have registered, by name."""
        return self.storage.periodic()

    def pause_periodic(self, name: str) -> None:
        """Let a periodic task fire no more until it is resumed, also after restarts; or JobNotFoundError."""
        self._enable_periodic(name, False)

    def resume_periodic(self, name: str) -> None:
        """Let a periodic task fire again, from its next slot on; what it missed meanwhile does not count."""
        self._enable_periodic(name, True)

    def run_periodic(self, name: str) -> JobResult[Any]:
        """Enqueue a periodic task now, beside its schedule, whether it is paused or not."""
        entry = self._periodic_state(name).entry
        job = NewJob(
            id=new_id(),
            task_name=entry.task_name,
            payload=entry.payload,
            queue=entry.queue,
            priority=entry.priority,
            max_retries=entry.max_retries,
            timeout=entry.timeout,
            result_ttl=entry.result_ttl,
            metadata=entry.metadata,
            tags=entry.tags,
        )
        [receipt] = self.storage.enqueue([job])
        return JobResult(self, receipt.id)

    # ---- inside ----

    def _existing(self, job_id: str) -> Job:
        found = self.storage.get([job_id])
        if not found:
            raise not_found(job_id)
        return found[0]

    def _again(self, job_id: str, act: Callable[[str, str], Any], refusal: str) -> JobResult[Any]:
        receipt = act(options.name("job_id", job_id), new_id())
        if receipt is None:
            raise TaskitoError(f"job {job_id} is {self._existing(job_id).status}: {refusal}")
        if not receipt.inserted:
            raise TaskitoError(
                f"job {job_id} has a unique key that job {receipt.id} holds: wait for that one, or cancel it"
            )
        return JobResult(self, receipt.id)

    def _record(self, one: Replay, replay: Job | None) -> ReplayRecord:
        result = None
        if one.result is not None and replay is not None:
            result = self.serializer_of(replay.task_name).loads(one.result)
        return ReplayRecord(*one[:-1], result)

    def _purge(self, status: JobStatus, older_than: Seconds) -> int:
        age = options.seconds("older_than", older_than)
        before = self.storage.now() - round(timedelta(seconds=age) / timedelta(milliseconds=1))
        total = 0
        while count := self.storage.purge(status, before, PURGE_BATCH):
            total += count
        return total

    def _enable_periodic(self, name: str, enabled: bool) -> None:
        entry = self._periodic_state(name).entry
        next_run = None
        if enabled:
            from taskito.cron.schedule import Schedule  # croniter: only for those who use it

            next_run = Schedule(entry.cron, entry.timezone).next_after(self.storage.now())
        self.storage.enable_periodic(name, enabled, next_run)

    def _periodic_state(self, name: str) -> PeriodicState:
        states = {state.entry.name: state for state in self.storage.periodic()}
        if options.name("name", name) not in states:
            listed = ", ".join(states) or "none"
            raise JobNotFoundError(
                f"there is no periodic task {name!r}; registered by workers so far: {listed}"
            )
        return states[name]

    # ---- async twins ----

    async def acancel_job(self, job_id: str) -> bool:
        return await aio.in_thread(self.cancel_job, job_id)

    async def acancel_running_job(self, job_id: str, *, force: bool = False) -> bool:
        return await aio.in_thread(self.cancel_running_job, job_id, force=force)

    async def aupdate_progress(self, job_id: str, progress: float) -> None:
        await aio.in_thread(self.update_progress, job_id, progress)

    async def areplay(self, job_id: str) -> JobResult[Any]:
        return await aio.in_thread(self.replay, job_id)

    async def aretry_dead(self, job_id: str) -> JobResult[Any]:
        return await aio.in_thread(self.retry_dead, job_id)

    async def adelete_dead(self, job_id: str) -> bool:
        return await aio.in_thread(self.delete_dead, job_id)

    async def areplay_history(self, job_id: str) -> list[ReplayRecord]:
        return await aio.in_thread(self.replay_history, job_id)

    async def apurge_completed(self, older_than: Seconds) -> int:
        return await aio.in_thread(self.purge_completed, older_than)

    async def apurge_dead(self, older_than: Seconds) -> int:
        return await aio.in_thread(self.purge_dead, older_than)

    async def atask_logs(self, job_id: str) -> list[LogEntry]:
        return await aio.in_thread(self.task_logs, job_id)

    async def aquery_logs(
        self,
        task_name: str | None = None,
        level: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[LogEntry]:
        return await aio.in_thread(self.query_logs, task_name, level, since, limit)

    async def apause(self, queue: str = "default") -> bool:
        return await aio.in_thread(self.pause, queue)

    async def aresume(self, queue: str = "default") -> bool:
        return await aio.in_thread(self.resume, queue)

    async def apaused_queues(self) -> list[str]:
        return await aio.in_thread(self.paused_queues)

    async def aperiodic_tasks(self) -> list[PeriodicState]:
        return await aio.in_thread(self.periodic_tasks)

    async def apause_periodic(self, name: str) -> None:
        await aio.in_thread(self.pause_periodic, name)

    async def aresume_periodic(self, name: str) -> None:
        await aio.in_thread(self.resume_periodic, name)

    async def arun_periodic(self, name: str) -> JobResult[Any]:
        return await aio.in_thread(self.run_periodic, name)


def _all_logs(reader: Reading, where: LogFilter) -> Iterator[LogEntry]:
    after: str | None = None
    while True:
        page = reader.storage.logs(
            LogFilter(job_id=where.job_id, levels=where.levels, after=after), MOST_PER_PAGE
        )
        yield from page
        if len(page) < MOST_PER_PAGE:
            return
        after = page[-1].id
