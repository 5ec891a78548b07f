"""A store that runs its own jobs, in the thread that enqueues or waits: what is behind ``queue.test_mode()``.

Jobs go through everything that a worker's jobs go through (serializer, claim, run, decision, record), but
nobody waits: when only later jobs are left, the store's clock is set forward to the next one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import taskito_core
from taskito.client import aio
from taskito.worker.child.runner import Runner
from taskito.worker.dispatch import results
from taskito.worker.dispatch.inflight import Entry
from taskito.worker.ipc.failure_events import notice_of
from taskito.worker.store.failures import log_failures
from taskito.worker.store.identity import TokenMint, new_worker_id
from taskito.worker.threads import run_in_thread
from taskito_core.job import Claim, Dead, Job, JobStatus, NewJob, Outcome, Receipt, Release, Retry, new_id
from taskito_core.retry import decide
from taskito_core.storage import StorageConfig
from taskito_core.storage_worker import Want, WorkerInfo
from taskito_kv.storage import MemoryStorage
from taskito_kv.store import forget

if TYPE_CHECKING:
    from taskito.client.queue import Queue
    from taskito.client.task import Task

#: Jobs in a row, each enqueued by the one before: a longer chain is taken for one without end.
LONGEST_CHAIN = 500


class _Place(NamedTuple):
    """Where an attempt, or a hook that is told of it, runs."""

    storage: InlineStorage
    link: int  #: the job's place in a chain of jobs, from 0


_place: ContextVar[_Place | None] = ContextVar("taskito_place", default=None)


class InlineStorage(MemoryStorage):
    """One block of ``test_mode``: its jobs, and the worker that runs them."""

    def __init__(self, queue: Queue, run: bool) -> None:
        self._store_name = new_id()
        self.config = StorageConfig(backend="memory", db_url=f"memory://{self._store_name}")
        super().__init__(self.config)
        self._queue = queue
        self._run_at_once = run
        self._runner = Runner(queue)
        self._tokens = TokenMint()
        self._links: dict[str, int] = {}  #: job id to its place in a chain, if it is not the first
        self.enqueued: list[NewJob] = []  #: in the order in which they were stored
        self._attempts = 0
        self._worker_id = new_worker_id()
        self.register(
            WorkerInfo(
                id=self._worker_id,
                host=socket.gethostname(),
                pid=os.getpid(),
                app="test_mode",
                queues=(),
                tasks=(),
                procs=1,
                version=taskito_core.__version__,
            )
        )

    def forget(self) -> None:
        """Drop all jobs."""
        forget(self._store_name)

    # ---- what a queue calls ----

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        """Store the jobs and, unless they are only to be recorded, run them and all they enqueue."""
        # Inside of somebody's transaction there is none here: what is enqueued is there at once.
        receipts = super().enqueue(jobs)
        inserted = [job for job, receipt in zip(jobs, receipts, strict=True) if receipt.inserted]
        self.enqueued += inserted
        if (place := self._place()) is not None:
            # Whoever runs that job goes on with these when it has ended.
            self._links |= {job.id: place.link + 1 for job in inserted}
        elif self._run_at_once:
            self.drain()
        return receipts

    def await_finished(self, job_id: str, timeout: float) -> bool:
        """Run the job if it is pending. Raises TimeoutError for one that nothing will ever run."""
        found = self.get([job_id])
        if found and found[0].status is JobStatus.PENDING:
            self._refuse_stuck(found[0])
            self.drain()
        return super().await_finished(job_id, timeout)

    def drain(self) -> int:
        """Run what is pending, retries included, until nothing is left; how many attempts that were."""
        # By their total, because a job that waits for another drains inside of this.
        before = self._attempts
        aio.off_the_loop(self._drain)
        return self._attempts - before

    # ---- the worker ----

    def _place(self) -> _Place | None:
        """Where this is, if inside of one of these jobs."""
        place = _place.get()
        return place if place is not None and place.storage is self else None

    def _drain(self) -> None:
        try:
            while (claim := self._next()) is not None:
                task = self._queue.tasks.get(claim.task_name)
                if task is None:
                    self._settle(Release(claim.id, claim.token, lane=claim.task_name))
                    continue
                token = _place.set(_Place(self, self._link_of(claim)))
                try:
                    self._attempt(claim, task)
                finally:
                    _place.reset(token)
        finally:
            self._runner.close()

    def _next(self) -> Claim | None:
        """The job that is due first, however late that is; None: there is none."""
        while queues := tuple(self.counts().by_queue):
            # One at a time: what was claimed and not begun, a job that waits for it would never see ended.
            want = Want(1, queues, tuple(self._queue.tasks), self._tokens.draw())
            exchange = self.exchange(self._worker_id, [], want)
            if exchange.claims:
                return exchange.claims[0]
            swept = self.sweep(1000)
            if swept.opened:
                continue
            moments = [moment for moment in (exchange.next_due, swept.next_at) if moment is not None]
            if not moments:
                break
            self.clock_shift += max(0, min(moments) - exchange.now)
        return None

    def _attempt(self, claim: Claim, task: Task[..., Any]) -> None:
        self._attempts += 1
        entry = Entry(1, claim, task.policy, time.monotonic(), 0.0)
        message = run_in_thread(self._runner, entry)
        started_at = claim.claimed_at + int((message.started - entry.claimed) * 1000)
        result = results.of_message(entry, message, stopping=False)
        entry.outcome = outcome = decide(claim, result, task.policy.retry, 0.0, started_at)
        if self._settle(outcome):
            log_failures([entry])
            self._queue.plugins.observe("taskito_jobs_finished", outcomes=[outcome])
            if (notice := notice_of(entry, self._worker_id, self.now())) is not None:
                self._runner.notify(notice)
        if isinstance(outcome, Retry | Dead) and outcome.error.type == KeyboardInterrupt.__name__:
            raise KeyboardInterrupt  # Somebody pressed Ctrl-C, and means the tests.

    def _settle(self, outcome: Outcome) -> bool:
        return outcome.job_id in self.exchange(self._worker_id, [outcome], None).recorded

    def _refuse_stuck(self, job: Job) -> None:
        what = f"job {job.id} of task {job.task_name!r} is pending, and nothing runs it"
        if not self._run_at_once and self._place() is None:
            raise TimeoutError(f"{what} in test_mode(run=False): call queue.drain() first")
        if job.task_name not in self._queue.tasks:
            raise TimeoutError(f"{what}: this queue has no such task")

    def _link_of(self, claim: Claim) -> int:
        if (link := self._links.get(claim.id, 0)) < LONGEST_CHAIN:
            return link
        self._settle(Release(claim.id, claim.token))
        raise RuntimeError(
            f"task {claim.task_name!r} is job {LONGEST_CHAIN} of a chain, each enqueued by the one before: "
            "for a task that enqueues itself without end, use test_mode(run=False)"
        )
