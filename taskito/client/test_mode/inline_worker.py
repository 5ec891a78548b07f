"""A worker in the thread that enqueues or waits: what runs the jobs of ``queue.test_mode()``.

A job goes through everything that a worker's jobs go through (serializer, claim, run, decision, record),
without the waiting: when only later jobs are left, the store's clock is set forward to the next one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import taskito_core
from taskito.client import aio
from taskito.worker.child.app import App, AppTask
from taskito.worker.child.runner import Runner
from taskito.worker.dispatch import results
from taskito.worker.dispatch.inflight import InFlight
from taskito.worker.store.failures import failure_event_of, log_failures
from taskito.worker.store.lease import TokenMint, new_worker_id
from taskito.worker.threads import run_in_thread
from taskito_core.job import Claim, Dead, Job, JobStatus, NewJob, Outcome, Receipt, Release, Retry
from taskito_core.retry import decide
from taskito_core.storage import Storage
from taskito_core.storage_worker import Want, WorkerInfo

#: Jobs in a row, each enqueued by the one before: a longer chain is taken for one without end.
LONGEST_CHAIN = 500


class _Running(NamedTuple):
    """The job of an inline worker that runs here and now, or whose callback does."""

    worker: InlineWorker
    link: int  #: the job's position in a chain of jobs that enqueue each other, from 0


_running: ContextVar[_Running | None] = ContextVar("taskito_inline_job", default=None)


class InlineWorker:
    """Runs the jobs of one store, each to its end, in the calling thread.

    ``set_forward`` moves the store's clock by so many milliseconds. ``run_at_once``: run jobs as soon as
    they are enqueued, and not only when ``drain`` is called.
    """

    def __init__(
        self, app: App, storage: Storage, set_forward: Callable[[int], None], *, run_at_once: bool
    ) -> None:
        self._app = app
        self._storage = storage
        self._set_forward = set_forward
        self._run_at_once = run_at_once
        self._runner = Runner(app)
        self._tokens = TokenMint()
        self._links: dict[str, int] = {}  #: job id to its position in a chain, if it is not the first
        self._attempts = 0
        self._id = new_worker_id()
        storage.register(
            WorkerInfo(
                id=self._id,
                host=socket.gethostname(),
                pid=os.getpid(),
                app="test_mode",
                queues=(),
                tasks=(),
                procs=1,
                version=taskito_core.__version__,
            )
        )

    def on_enqueued(self, jobs: Iterable[NewJob]) -> None:
        """Run these jobs and all they enqueue, now or when the job that enqueued them has ended."""
        if (running := self._running_here()) is not None:
            self._links |= {job.id: running.link + 1 for job in jobs}
        elif self._run_at_once:
            self.drain()

    def on_awaited(self, job: Job) -> None:
        """Run a pending job that a caller waits for. Raises TimeoutError for one that will never run."""
        what = f"job {job.id} of task {job.task_name!r} is pending, and nothing runs it"
        if not self._run_at_once and self._running_here() is None:
            raise TimeoutError(f"{what} in test_mode(run=False): call queue.drain() first")
        if job.task_name not in self._app.tasks:
            raise TimeoutError(f"{what}: this queue has no such task")
        self.drain()

    def drain(self) -> int:
        """Run what is pending, retries included, until nothing is left; how many attempts that were."""
        # By their total, because a job that waits for another drains inside of this.
        before = self._attempts
        aio.off_the_loop(self._drain)
        return self._attempts - before

    def _running_here(self) -> _Running | None:
        """This worker's job that the caller is inside of."""
        running = _running.get()
        return running if running is not None and running.worker is self else None

    def _drain(self) -> None:
        opened = False
        try:
            while (claim := self._next()) is not None:
                if not opened:
                    self._runner.open_resources()
                    opened = True
                task = self._app.tasks.get(claim.task_name)
                if task is None:
                    self._settle(Release(claim.id, claim.token, lane=claim.task_name))
                    continue
                token = _running.set(_Running(self, self._link_of(claim)))
                try:
                    self._attempt(claim, task)
                finally:
                    _running.reset(token)
        finally:
            if opened:
                self._runner.close_resources()
            self._runner.close()

    def _next(self) -> Claim | None:
        """The job that is due first, however late that is; None: there is none."""
        storage = self._storage
        while queues := tuple(storage.counts().by_queue):
            # One at a time: a job that waits for one that was claimed and not begun would wait for ever.
            want = Want(1, queues, tuple(self._app.tasks), self._tokens.draw())
            exchange = storage.exchange(self._id, [], want)
            if exchange.claims:
                return exchange.claims[0]
            swept = storage.sweep(1000)
            if swept.opened:
                continue
            moments = [moment for moment in (exchange.next_due, swept.next_at) if moment is not None]
            if not moments:
                break
            self._set_forward(max(0, min(moments) - exchange.now))
        return None

    def _attempt(self, claim: Claim, task: AppTask) -> None:
        self._attempts += 1
        entry = InFlight(1, claim, task.policy, time.monotonic(), 0.0)
        message = run_in_thread(self._runner, entry)
        if self._runner.unfinished():
            self._runner.finish(claim.task_name)
        started_at = claim.claimed_at + int((message.started - entry.claimed) * 1000)
        result = results.of_message(entry, message, stopping=False)
        entry.outcome = outcome = decide(claim, result, task.policy.retry, 0.0, started_at)
        if self._settle(outcome):
            log_failures([entry])
            self._app.plugins.observe("taskito_jobs_finished", outcomes=[outcome])
            if (event := failure_event_of(entry, self._id, self._storage.now())) is not None:
                self._runner.notify(event)
        if isinstance(outcome, Retry | Dead) and outcome.error.type == KeyboardInterrupt.__name__:
            raise KeyboardInterrupt  # Ctrl-C is meant for the tests, and not for the job that it hit.

    def _settle(self, outcome: Outcome) -> bool:
        return outcome.job_id in self._storage.exchange(self._id, [outcome], None).recorded

    def _link_of(self, claim: Claim) -> int:
        if (link := self._links.get(claim.id, 0)) < LONGEST_CHAIN:
            return link
        self._settle(Release(claim.id, claim.token))
        raise RuntimeError(
            f"task {claim.task_name!r} is job {LONGEST_CHAIN} of a chain, each enqueued by the one before: "
            "for a task that enqueues itself without end, use test_mode(run=False)"
        )


class InlineStorage:
    """A storage whose jobs an InlineWorker runs when they are enqueued or awaited; else as the storage."""

    def __init__(self, storage: Storage, worker: InlineWorker) -> None:
        self._storage = storage
        self._worker = worker
        self.enqueued: list[NewJob] = []  #: in the order in which they were stored

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        """Store the jobs at once, also if the caller has a transaction open, and let the worker run them."""
        receipts = self._storage.enqueue(jobs)
        inserted = [job for job, receipt in zip(jobs, receipts, strict=True) if receipt.inserted]
        self.enqueued += inserted
        self._worker.on_enqueued(inserted)
        return receipts

    def await_finished(self, job_id: str, timeout: float) -> bool:
        """Run the job if it is pending. Raises TimeoutError for one that will never run."""
        found = self._storage.get([job_id])
        if found and found[0].status is JobStatus.PENDING:
            self._worker.on_awaited(found[0])
        return self._storage.await_finished(job_id, timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)
