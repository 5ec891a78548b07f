"""A worker whose app is known: jobs from the store to the executors, and outcomes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from taskito.running_job import job_log
from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import Executor, Exit, InFlight
from taskito.worker.dispatch.pool import Pool
from taskito.worker.ipc.failure_events import FailureEvent
from taskito.worker.ipc.wire import ResultMessage
from taskito.worker.store.admission import AdmissionControl
from taskito.worker.store.client import StoreClient
from taskito.worker.store.job_log import JobLogBuffer
from taskito.worker.store.liveness import PeerLifelines
from taskito.worker.store.metrics import MetricsRecorder, NoRecorder
from taskito.worker.store.requests import Reply, Wakeup
from taskito.worker.store.thread import StoreThread
from taskito.worker.supervisor.shutdown import ExitCode
from taskito_core.errors import ConfigError, StorageError, StorageUnavailable, TaskitoError
from taskito_core.storage_worker import WorkerInfo

log = logging.getLogger("taskito.worker")

#: Seconds the store thread gets to close its connections at the very end.
STOP_TIMEOUT = 2.0
#: The same if the store did not answer in time: the worker's own time is up then.
STOP_AT_ONCE = 0.5
#: Seconds after which a job over its limit is checked again, should it still not have been ended.
CHECK_AGAIN = 1.0


class StartFailure(NamedTuple):
    """Why a worker cannot start."""

    code: ExitCode
    error: TaskitoError


class ExecutorReports:
    """Hands what the pool tells of executors to the dispatcher and the job log."""

    def __init__(self, dispatcher: Dispatcher, notes: JobLogBuffer) -> None:
        self._dispatcher = dispatcher
        self._notes = notes

    def opened(self, executor_id: int) -> None:
        self._dispatcher.executors.open(executor_id, time.monotonic())

    def results(self, executor_id: int, results: Sequence[ResultMessage]) -> None:
        if log.isEnabledFor(logging.DEBUG):
            self._log_ends(executor_id, results)
        self._dispatcher.results(executor_id, results, time.monotonic())

    def _log_ends(self, executor_id: int, results: Sequence[ResultMessage]) -> None:
        executor = self._dispatcher.executors.get(executor_id)
        held = {} if executor is None else executor.outstanding
        for result in results:
            if (entry := held.get(result.seq)) is not None:
                claim, how = entry.claim, result.kind.name.lower().replace("_", " ")
                log.debug("job %s (%s) %s after %.3f s", claim.id, claim.task_name, how, result.ran)

    def returned(self, executor_id: int, seqs: Sequence[int]) -> None:
        self._dispatcher.returned(executor_id, seqs)

    def note(self, executor_id: int, seq: int, fields: list[Any]) -> None:
        executor = self._dispatcher.executors.get(executor_id)
        if executor is None or (entry := executor.outstanding.get(seq)) is None:
            return
        claim = entry.claim
        try:
            note = job_log.read(fields, claim.id, claim.task_name, claim.token)
        except ValueError as exc:
            log.warning("job %s: %s", claim.id, exc)
        else:
            self._notes.add(note, time.monotonic())

    def closing(self, executor_id: int) -> None:
        self._dispatcher.executors.close(executor_id)

    def lost(self, executor_id: int, how: Exit) -> None:
        self._dispatcher.lose_executor(executor_id, how, time.monotonic())


class Running:
    """Moves claims from the store to the dispatcher, jobs on to the pool, and outcomes back."""

    def __init__(
        self,
        worker: WorkerInfo,
        pool: Pool,
        dispatcher: Dispatcher,
        thread: StoreThread,
        admission: AdmissionControl,
        recorder: MetricsRecorder | NoRecorder,
        peers: PeerLifelines,
        *,
        rename: Callable[[str], None],
        boot_timeout: float,
    ) -> None:
        self._pool = pool
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._rename = rename
        self._store = StoreClient(thread, admission, worker, dispatcher, peers, self)
        self._boot_timeout = boot_timeout
        self._boot_by = time.monotonic() + boot_timeout  #: the store must have answered by then
        self.executors = ExecutorReports(dispatcher, self._store.job_log)
        self._store.start()
        recorder.start()

    # ---- one step ----

    def step(self, now: float) -> None:
        """Give out what follows from what came in."""
        self._give_out(now)
        self._store.step(now)
        self._recorder.step(now)

    def _give_out(self, now: float) -> None:
        pool, dispatcher, executors = self._pool, self._dispatcher, self._dispatcher.executors
        for executor, frame in dispatcher.assign(now):
            pool.send(executor.id, frame)
        for executor in executors.recalls(now, pool.running):
            pool.recall(executor.id)
        for executor in executors.to_check(now):
            self._check(executor, now)
        dispatcher.return_surplus(now)

    def _check(self, executor: Executor, now: float) -> None:
        running = self._pool.running(executor.id)
        if (seq := self._dispatcher.executors.overdue(executor.id, running, now)) is not None:
            # By its number: the executor may be inside of the next job already.
            self._pool.stop_overdue(executor.id, seq)
            executor.check_at = now + CHECK_AGAIN

    def next_deadline(self) -> float:
        """When ``step`` has something to do next without an event; infinity: never."""
        executors = self._dispatcher.executors
        due = min(executors.next_recall(), executors.next_check(), self._dispatcher.next_surplus())
        due = min(due, self._store.next_deadline(), self._recorder.next_deadline())
        return min(due, self._boot_by) if self._store.booting else due

    def take(self, message: Reply | Wakeup, now: float) -> None:
        """Take in what the store thread posted."""
        if isinstance(message, Wakeup):
            self._store.woken()
        else:
            self._store.take(message, now)

    def peer_gone(self) -> None:
        self._store.peer_gone()

    def check(self, now: float) -> StartFailure | None:
        """Has the store refused this worker, or not answered in the time that a start may take?"""
        store = self._store
        if (why := store.fatal) is not None:
            cls = ConfigError if isinstance(why, ConfigError) else StorageError
            return _failure(ExitCode.INTERNAL_ERROR, cls(f"the store cannot be used: {why}"), why)
        if store.booting and now >= self._boot_by:
            message = f"the store did not answer within {self._boot_timeout:g} s"
            if store.trouble is not None:
                message += f": {store.trouble}"
            return _failure(ExitCode.STORE_UNREACHABLE, StorageUnavailable(message), store.trouble)
        return None

    # ---- StoreEvents ----

    def jobs_revoked(self, executor_ids: Sequence[int]) -> None:
        self._pool.revoke(executor_ids)

    def cancel_asked(self, executor: Executor, entry: InFlight, force: bool) -> None:
        if entry.seq in self._pool.running(executor.id):
            self._pool.cancel(executor.id, entry.seq, force)
        else:
            self._pool.recall(executor.id)  # Not begun: it comes back, and goes back.

    def attempts_failed(self, events: Sequence[FailureEvent]) -> None:
        self._pool.notify(events)

    def renamed(self, worker_id: str) -> None:
        self._rename(worker_id)

    # ---- the end ----

    def drain(self) -> None:
        """Claim and begin nothing more."""
        self._dispatcher.drain()

    def idle(self) -> bool:
        """No claim is in flight."""
        return self._dispatcher.idle()

    def leave(self) -> None:
        """Unregister when everything is recorded."""
        self._store.leave()

    def finished(self) -> bool:
        """Is there nothing to wait for? Before the store has answered, nothing was claimed."""
        return self._store.booting or self._store.left

    @property
    def interrupted(self) -> int:
        """How many jobs were broken off by the shutdown."""
        return self._dispatcher.interrupted

    @property
    def held(self) -> int:
        """How many claims are in flight."""
        return len(self._dispatcher.holding())

    @property
    def running(self) -> int:
        """How many jobs have begun and not ended."""
        return sum(len(self._pool.running(executor.id)) for executor in self._dispatcher.executors)

    @property
    def known_to_store(self) -> bool:
        """Does the store believe that this worker is alive?"""
        return self._store.registered and not self._store.left

    def close(self) -> None:
        """End the threads of store and metrics, for a bounded time."""
        self._recorder.finish()
        patience = STOP_TIMEOUT if self._store.left else STOP_AT_ONCE
        give_up = time.monotonic() + patience
        if not self._store.stop(patience):
            log.warning("the store did not let go within %g s", patience)
        # Both end at the same time: a store that was slow has used up the patience for the other.
        if not self._recorder.join(max(0.0, give_up - time.monotonic())):
            log.warning("the last metrics were not recorded within %g s", patience)


def _failure(code: ExitCode, error: TaskitoError, cause: Exception | None) -> StartFailure:
    error.__cause__ = cause
    return StartFailure(code, error)
