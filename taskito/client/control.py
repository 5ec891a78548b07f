"""The part of a queue that changes what is stored: jobs, queues and circuit breakers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

from taskito.client import aio
from taskito.client.base import QueueBase
from taskito.client.options import job_options
from taskito.client.options.job_options import Lifetime, Seconds
from taskito.client.options.limits import parse_rate
from taskito.client.results.job_result import JobResult
from taskito.config.settings import UNSET, Unset
from taskito.running_job import job_log
from taskito_core import messages
from taskito_core.errors import TaskitoError, not_found
from taskito_core.job import FOREVER, Job, JobStatus, new_id
from taskito_core.limits import QueueLimits
from taskito_core.storage_worker import Progress, Pruned, Retention

#: Jobs deleted by one transaction of ``purge_completed``, ``purge_dead`` and ``prune``.
PURGE_BATCH = 500


class Control(QueueBase):
    """Cancelling, repeating and deleting jobs; pausing queues; closing circuit breakers."""

    # ---- jobs ----

    def cancel_job(self, job_id: str) -> bool:
        """Cancel a pending job, and the jobs that depend on it; False if it is not pending.

        Raises JobNotFoundError if there is no such job.
        """
        if self.storage.cancel([job_options.name("job_id", job_id)], messages.CANCELLED_BEFORE_START):
            return True
        self._existing(job_id)
        return False

    def cancel_running_job(self, job_id: str, *, force: bool = False) -> bool:
        """Ask a running job to stop; False if it is not running. Does not wait.

        The task sees it in ``current_job.check_cancelled()`` and ``track()``. With ``force`` JobCancelled is
        raised in it, wherever it is (not in a pool of threads). It ends as cancelled when it lets that
        through; until then it runs, is told again each second, and after 5 s ended with its process. An
        attempt that fails instead is not retried. Raises JobNotFoundError.
        """
        if self.storage.ask_to_cancel(
            [job_options.name("job_id", job_id)], job_options.boolean("force", force)
        ):
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
        job_id = job_options.name("job_id", job_id)
        return bool(self.storage.letters([job_id])) and bool(self.storage.delete([job_id]))

    def purge_completed(self, older_than: Seconds) -> int:
        """Delete completed jobs that ended longer ago than this, with all that belongs to them; how many.

        In short transactions, so a worker at full load goes on. Parents of live jobs are kept.
        """
        return self._purge(JobStatus.COMPLETE, older_than)

    def purge_dead(self, older_than: Seconds) -> int:
        """The same for dead jobs and their letters."""
        return self._purge(JobStatus.DEAD, older_than)

    def prune(self, *, dry_run: bool = False) -> Pruned:
        """Delete now what is kept no longer, as every worker does once a minute; how much that was.

        What a job's ``result_ttl`` says, and for all others the store's retention. In short transactions.
        ``dry_run``: only count. What is needed by other jobs, until those are gone, is not counted.
        """
        if dry_run:
            return self.storage.prune(2**31 - 1, dry_run=True)
        finished = dead = logs = 0
        while any(pruned := self.storage.prune(PURGE_BATCH)[:3]):
            finished, dead, logs = finished + pruned[0], dead + pruned[1], logs + pruned[2]
        return Pruned(finished, dead, logs)

    def set_retention(
        self,
        *,
        finished: Lifetime | Unset | None = UNSET,
        dead: Lifetime | Unset | None = UNSET,
        logs: Lifetime | Unset | None = UNSET,
        metrics: Lifetime | Unset | None = UNSET,
    ) -> Retention:
        """Say how long this store keeps what has no time of its own; what holds now.

        It holds for every queue and worker of the store, and for what has ended already. What is left out
        stays as it is; None or ``forever``: for ever.
        """
        said = {"finished": finished, "dead": dead, "logs": logs, "metrics": metrics}
        read = {
            name: job_options.lifetime(name, value)
            for name, value in said.items()
            if not isinstance(value, Unset)
        }
        kept = {name: None if value == FOREVER else value for name, value in read.items()}
        retention = self.storage.retention()._replace(**kept)
        self.storage.retain(retention)
        return retention

    # ---- queues and limits ----

    def pause(self, queue: str = "default") -> bool:
        """Have no worker claim from a queue any more, from its next claim on; False if it was paused.

        Running jobs go on, new ones are stored. Survives restarts.
        """
        return self.storage.pause(job_options.queue_name("queue", queue))

    def resume(self, queue: str = "default") -> bool:
        """Undo ``pause``; False if the queue was not paused."""
        return self.storage.resume(job_options.queue_name("queue", queue))

    def set_queue_limits(
        self,
        queue: str = "default",
        *,
        concurrency: int | Unset | None = UNSET,
        rate: str | Unset | None = UNSET,
        max_pending: int | Unset | None = UNSET,
    ) -> QueueLimits:
        """Limit all jobs of a queue, beside what their tasks say, over all workers; what holds now.

        How many run at once, how many start in a time (``"100/m"``), and how many may be pending: beyond that
        ``enqueue`` raises QueueFull. What is left out stays as it is, None: no limit. Survives restarts.
        """
        name = job_options.queue_name("queue", queue)
        said: dict[str, Any] = {}
        if not isinstance(concurrency, Unset):
            said["concurrency"] = (
                None if concurrency is None else job_options.whole("concurrency", concurrency, 1)
            )
        if not isinstance(rate, Unset):
            said["rate"] = None if rate is None else parse_rate(rate)
        if not isinstance(max_pending, Unset):
            said["max_pending"] = (
                None if max_pending is None else job_options.whole("max_pending", max_pending)
            )
        limits = self.storage.queue_limits().get(name, QueueLimits())._replace(**said)
        self.storage.limit_queue(name, limits)
        return limits

    def reset_circuit_breaker(self, task_name: str) -> bool:
        """Close a task's breaker and forget its failures; False if there is none."""
        with closing(self.backends.open_breaker()) as breaker:
            return breaker.reset(job_options.name("task_name", task_name))

    # ---- inside ----

    def _existing(self, job_id: str) -> Job:
        found = self.storage.get([job_id])
        if not found:
            raise not_found(job_id)
        return found[0]

    def _again(self, job_id: str, act: Callable[[str, str], Any], refusal: str) -> JobResult[Any]:
        receipt = act(job_options.name("job_id", job_id), new_id())
        if receipt is None:
            replays = [one.new_id for one in self.storage.replays(job_id) if one.job_id == job_id]
            again = f"; it was run again, as job {replays[-1]}" if replays else ""
            raise TaskitoError(f"job {job_id} is {self._existing(job_id).status}: {refusal}{again}")
        if not receipt.inserted:
            raise TaskitoError(
                f"job {job_id} has a unique key that job {receipt.id} holds: wait for that one, or cancel it"
            )
        return self._handle(receipt.id)

    def _purge(self, status: JobStatus, older_than: Seconds) -> int:
        age = job_options.seconds("older_than", older_than)
        before = self.storage.now() - round(timedelta(seconds=age) / timedelta(milliseconds=1))
        total = 0
        while count := self.storage.purge(status, before, PURGE_BATCH):
            total += count
        return total

    # ---- async twins ----

    acancel_job = aio.twin(cancel_job)
    acancel_running_job = aio.twin(cancel_running_job)
    aupdate_progress = aio.twin(update_progress)
    areplay = aio.twin(replay)
    aretry_dead = aio.twin(retry_dead)
    adelete_dead = aio.twin(delete_dead)
    apurge_completed = aio.twin(purge_completed)
    apurge_dead = aio.twin(purge_dead)
    aprune = aio.twin(prune)
    aset_retention = aio.twin(set_retention)
    apause = aio.twin(pause)
    aresume = aio.twin(resume)
    aset_queue_limits = aio.twin(set_queue_limits)
    areset_circuit_breaker = aio.twin(reset_circuit_breaker)
