"""The worker's loop: events in from the pool, the store and signals; jobs and outcomes out.

One thread, never blocked: it only waits in the selector. The same loop runs children
(``taskito worker``) and threads (``queue.run_worker()``); which, is the pool's business.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import taskito_core
from taskito.running_job import job_log
from taskito.running_job.job_log import Fields
from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import Death, Entry, Lane
from taskito.worker.dispatch.pool import Pool
from taskito.worker.ipc.app_manifest import AppReport
from taskito.worker.ipc.signals import SignalPipe
from taskito.worker.ipc.wire import ResultMessage
from taskito.worker.store.admission import open_gatekeeper
from taskito.worker.store.client import StoreDesk
from taskito.worker.store.cron import Schedules
from taskito.worker.store.errands import Errands
from taskito.worker.store.liveness import Neighbours
from taskito.worker.store.metrics import Recorder
from taskito.worker.store.thread import Answer
from taskito.worker.supervisor.mailbox import Mailbox
from taskito.worker.supervisor.shutdown import ExitCode, Phase, Shutdown
from taskito_core.errors import ConfigError, StorageError, StorageUnavailable, TaskitoError
from taskito_core.plugin_manager import Plugins
from taskito_core.storage_worker import WorkerInfo

log = logging.getLogger("taskito.worker")

#: Seconds between two WorkerShutdowns for a job that ignores them.
INTERRUPT_AGAIN = 1.0
#: Seconds the store thread gets to close its connections at the very end.
STOP_TIMEOUT = 2.0
#: The same if the store did not answer in time: the worker's own time is up then.
STOP_AT_ONCE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """What a worker is asked to do; durations in seconds."""

    queues: tuple[str, ...] | None = None  #: None: every queue the app names
    graceful_timeout: float = 25.0
    boot_timeout: float = 60.0


class WorkerLoop:
    """One worker, from boot to exit code. Implements PoolEvents."""

    def __init__(
        self,
        options: LoopOptions,
        plugins_for: Callable[[AppReport], Plugins],
        selector: selectors.BaseSelector,
        worker_id: str,
        rename: Callable[[str], None],
    ) -> None:
        self._options = options
        self._plugins_for = plugins_for
        self._selector = selector
        self._worker_id = worker_id
        self._rename = rename
        self._mail: Mailbox[Answer | None] = Mailbox()  #: None: a wakeup
        self._shutdown = Shutdown(options.graceful_timeout)
        self._acted = Phase.RUNNING  #: the last phase whose beginning was acted upon
        self._interrupt_at = float("inf")
        self._store_asked = 0.0  #: when the store was turned to first
        #: Asked now: a terminal that is gone is none any more.
        self._on_terminal = os.isatty(0)
        self._pool: Pool | None = None
        self._dispatcher: Dispatcher | None = None
        self._desk: StoreDesk | None = None
        self._recorder: Recorder | None = None  #: None too if no metrics are kept
        self._failure: ExitCode | None = None
        self.failure: TaskitoError | None = None  #: why the worker could not start, or not end well
        self._neighbours = Neighbours(selector, self._neighbour_gone)
        selector.register(self._mail, selectors.EVENT_READ, self._take_mail)

    def run(self, pool: Pool, signals: SignalPipe | None = None) -> int:
        """Run until drained, stopped or failed; the exit code."""
        self._pool = pool
        if signals is not None:
            self._selector.register(signals, selectors.EVENT_READ, lambda _: self._heed(signals.drain()))
        try:
            pool.start()
            while not self._finished():
                self._turn(pool)
        finally:
            pool.close()
            self._close()
        return self._exit_code()

    def request_shutdown(self) -> None:
        """Begin to drain. From any thread."""
        self._mail.post(Answer("shutdown", None, None))

    @property
    def held_for_alive(self) -> bool:
        """True after ``run`` if the store could not be told that this worker is gone."""
        return self._desk is not None and self._desk.registered and not self._desk.left

    # ---- one turn ----

    def _turn(self, pool: Pool) -> None:
        """Wait for something, take it in, then give out what follows from it."""
        for key, mask in self._selector.select(self._until_next(pool)):
            key.data(mask)
        now = time.monotonic()
        pool.tick(now)
        self._shut_down(pool, now)
        if self._dispatcher is not None and self._desk is not None:
            self._give_out(pool, self._dispatcher, now)
            self._desk.turn(now)
        if self._recorder is not None:
            self._recorder.turn(now)

    def _give_out(self, pool: Pool, dispatcher: Dispatcher, now: float) -> None:
        for lane, frame in dispatcher.assign(now):
            pool.send(lane.id, frame)
        for lane in dispatcher.worn_out():
            pool.worn_out(lane.id)
        for lane in dispatcher.recalls(now):
            pool.recall(lane.id)
        if dispatcher.next_check() <= now:
            self._stop_overdue(pool, dispatcher, now)
        dispatcher.return_stale(now)

    def _stop_overdue(self, pool: Pool, dispatcher: Dispatcher, now: float) -> None:
        for lane in list(dispatcher.lanes.values()):
            if lane.check_at > now:
                continue
            seq, started = pool.running(lane.id)
            if dispatcher.overdue(lane.id, seq, started, now):
                # By its number: the lane may be inside of the next job already.
                pool.stop_overdue(lane.id, seq)
                # Should it end in time after all, it must be looked at again.
                lane.check_at = now + 1.0

    def _until_next(self, pool: Pool) -> float | None:
        """Seconds until something is due; None: until an event."""
        due = min(pool.next_deadline(), self._shutdown.deadline, self._interrupt_at)
        if self._shutdown.phase > Phase.RUNNING:
            due = min(due, self._shutdown.flush_by)
        if self._dispatcher is not None and self._desk is not None:
            dispatcher = self._dispatcher
            due = min(due, dispatcher.next_recall(), dispatcher.next_check(), dispatcher.next_stale())
            due = min(due, self._desk.next_deadline())
            if self._desk.booting:
                due = min(due, self._store_asked + self._options.boot_timeout)
        if self._recorder is not None:
            due = min(due, self._recorder.next_deadline())
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    # ---- events ----

    def _heed(self, signums: Sequence[int]) -> None:
        now = time.monotonic()
        # Looked for whatever came: in a storm of others, a SIGCHLD may find the pipe full.
        self._the_pool.child_event()
        for signum in signums:
            if signum == signal.SIGCHLD:
                continue
            if signum == signal.SIGHUP and self._on_terminal:
                log.info("the terminal is gone: draining")
                self._shutdown.signal(signum, now)
            elif signum != signal.SIGHUP:
                if signum == signal.SIGQUIT:
                    self._the_pool.dump_stacks()
                self._shutdown.signal(signum, now)

    def _take_mail(self, mask: int) -> None:
        now = time.monotonic()
        for item in self._mail.take():
            if item is not None and item.name == "shutdown":
                self._shutdown.request(now)
            elif self._desk is None:
                continue
            elif item is None:
                self._desk.woken(now)
            else:
                self._desk.answer(item, now)

    def _cancel(self, lane: Lane, entry: Entry, force: bool) -> None:
        running, _ = self._the_pool.running(lane.id)
        if running == entry.seq:
            self._the_pool.cancel(lane.id, entry.seq, force)
        else:
            self._the_pool.recall(lane.id)  # Not begun: it comes back, and goes back.

    def _neighbour_gone(self) -> None:
        if self._desk is not None:
            self._desk.peer_gone()

    # ---- PoolEvents ----

    def app_ready(self, report: AppReport, lanes: int) -> None:
        if not report.tasks:
            listed = ", ".join(report.modules) or "no modules of yours"
            message = f"{report.app} has no tasks; importing it brought in: {listed}"
            self._fail(ExitCode.APP_FAILED, ConfigError(message))
            return
        try:
            plugins = self._plugins_for(report)
            storage = plugins.open_storage(report.storage)
            gatekeeper = open_gatekeeper(report, plugins)
            sink = plugins.open_metrics(report.metrics, report.storage)
        except ConfigError as exc:
            self._fail(ExitCode.APP_FAILED, exc)
            return
        schedules = Schedules(report.app, report.periodic, gatekeeper.guarded)
        errands = Errands(storage, plugins, gatekeeper, schedules)
        worker = WorkerInfo(
            id=self._worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            app=report.app,
            queues=self._options.queues or report.queues,
            tasks=tuple(sorted(report.tasks)),
            procs=lanes,
            version=taskito_core.__version__,
        )
        log.info(
            "worker %s: app %s, procs %d, queues %s, %s",
            worker.id,
            report.app,
            lanes,
            ", ".join(worker.queues),
            plugins.describe(report.storage),
        )
        for name in sorted(set(worker.queues) - set(report.queues)):
            log.warning(
                "no task of %s uses the queue %r; only jobs sent there by name will come", report.app, name
            )
        self._dispatcher = Dispatcher(report.tasks, random.random)
        self._desk = StoreDesk(
            storage,
            worker,
            self._dispatcher,
            errands,
            self._mail.post,
            lambda: self._mail.post(None),
            self._neighbours,
            self._the_pool.disown,
            self._cancel,
            self._the_pool.notify,
            self._rename,
        )
        self._desk.start()
        if sink is not None:
            self._recorder = Recorder(sink, self._dispatcher.tallies)
            self._recorder.start()
        self._store_asked = time.monotonic()

    def app_failed(self, message: str, traceback: str | None) -> None:
        self._fail(ExitCode.APP_FAILED, ConfigError(f"the app cannot be loaded: {message}"), traceback)

    def lane_opened(self, lane_id: int, limit: int | None) -> None:
        if self._dispatcher is not None:
            self._dispatcher.open_lane(lane_id, limit, time.monotonic())

    def lane_results(self, lane_id: int, results: Sequence[ResultMessage]) -> None:
        if self._dispatcher is not None:
            self._dispatcher.results(lane_id, results, time.monotonic())

    def lane_returned(self, lane_id: int, seqs: Sequence[int]) -> None:
        if self._dispatcher is not None:
            self._dispatcher.returned(lane_id, seqs)

    def lane_said(self, lane_id: int, seq: int, note: Fields) -> None:
        if self._dispatcher is None or self._desk is None:
            return
        lane = self._dispatcher.lanes.get(lane_id)
        if lane is None or (entry := lane.outstanding.get(seq)) is None:
            return
        claim = entry.claim
        try:
            said = job_log.read(note, claim.id, claim.task_name, claim.token)
        except ValueError as exc:
            log.warning("job %s: %s", claim.id, exc)
        else:
            self._desk.notebook.add(said, time.monotonic())

    def lane_closing(self, lane_id: int) -> None:
        if self._dispatcher is not None:
            self._dispatcher.close_lane(lane_id)

    def lane_lost(self, lane_id: int, death: Death) -> None:
        if self._dispatcher is not None:
            self._dispatcher.lose_lane(lane_id, death, time.monotonic())

    # ---- shutdown ----

    def _shut_down(self, pool: Pool, now: float) -> None:
        """Act on the phase the worker has come to."""
        if self._desk is not None:
            self._check_store(self._desk, now)
        self._shutdown.tick(now)
        phase = self._shutdown.phase
        if phase >= Phase.DRAINING > self._acted:
            log.info("draining: running jobs may end, nothing new is begun")
            if self._dispatcher is not None:
                self._dispatcher.drain()
            pool.drain()
        if phase >= Phase.INTERRUPTING > self._acted:
            log.warning("running jobs are interrupted and go back")
            self._interrupt_at = now
        if phase >= Phase.KILLING > self._acted:
            log.warning("what still runs is killed and goes back")
            self._interrupt_at = float("inf")
            pool.kill()
        self._acted = phase
        if now >= self._interrupt_at:
            pool.interrupt()
            self._interrupt_at = now + INTERRUPT_AGAIN
        if phase >= Phase.DRAINING and (self._dispatcher is None or self._dispatcher.idle()):
            pool.dismiss()
            if self._desk is not None and pool.empty():
                self._desk.leave()

    def _check_store(self, desk: StoreDesk, now: float) -> None:
        """Fail if the store will not have us, or does not answer in the time a start may take."""
        if (why := desk.fatal) is not None:
            cls = ConfigError if isinstance(why, ConfigError) else StorageError
            self._fail(ExitCode.INTERNAL_ERROR, cls(f"the store cannot be used: {why}"), cause=why)
        elif desk.booting and now >= self._store_asked + self._options.boot_timeout:
            message = f"the store did not answer within {self._options.boot_timeout:g} s"
            if desk.trouble is not None:
                message += f": {desk.trouble}"
            self._fail(ExitCode.STORE_UNREACHABLE, StorageUnavailable(message), cause=desk.trouble)

    def _finished(self) -> bool:
        if self._failure is not None:
            return True
        if self._shutdown.phase is Phase.RUNNING:
            return False
        if time.monotonic() >= self._shutdown.flush_by:
            return True
        if self._desk is None or self._desk.booting:
            # Nothing was ever claimed, so there is nothing to wait for.
            return True
        return self._desk.left

    def _fail(
        self,
        code: ExitCode,
        error: TaskitoError,
        traceback: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        if self._failure is None:
            error.__cause__ = cause or error.__cause__
            self._failure, self.failure = code, error
            log.critical("%s%s", error, f"\n{traceback.rstrip()}" if traceback else "")

    def _close(self) -> None:
        if self._recorder is not None:
            self._recorder.finish()
        if self._desk is not None:
            patience = STOP_TIMEOUT if self._desk.left else STOP_AT_ONCE
            give_up = time.monotonic() + patience
            if not self._desk.stop(patience):
                log.warning("the store did not let go within %g s", patience)
            # Both end at the same time: a store that was slow has used up the patience for the other.
            if self._recorder is not None and not self._recorder.join(max(0.0, give_up - time.monotonic())):
                log.warning("the last metrics were not recorded within %g s", patience)
        self._neighbours.close()
        self._selector.unregister(self._mail)
        self._mail.close()

    def _exit_code(self) -> int:
        if self._failure is not None:
            return self._failure
        dispatcher = self._dispatcher
        held = len(dispatcher.holding()) if dispatcher else 0
        interrupted = dispatcher.interrupted if dispatcher else 0
        if held:
            message = f"{held} jobs could not be settled before the end; another worker will rescue them"
            log.error("%s", message)
            self.failure = StorageUnavailable(message)
        code = self._shutdown.exit_code(interrupted, held)
        log.info("worker %s is done", self._worker_id)
        return code

    @property
    def _the_pool(self) -> Pool:
        assert self._pool is not None
        return self._pool
