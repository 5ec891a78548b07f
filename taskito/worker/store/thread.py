"""The store thread: the only user of storage in a worker, but for heartbeats while it waits for long.

It performs one request at a time, in order, and posts each reply to the loop. While it has nothing to do it
listens for wakeups. It decides nothing: what to send again after an outage, and when, is the store client's
business. Plugins' hooks run here too, because the loop must wait neither for them nor for the store.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from taskito.worker.store import requests
from taskito.worker.store.admission import AdmissionControl
from taskito.worker.store.cron import Schedules
from taskito.worker.store.requests import Reply, Request
from taskito.worker.store.timers import Upkeep
from taskito.worker.store.unserved_lanes import unserved_lanes
from taskito_core.errors import StorageError, StorageUnavailable
from taskito_core.plugin_manager import Plugins
from taskito_core.storage import Storage
from taskito_core.storage_worker import Beat, Note, Wakeups, WorkerInfo

log = logging.getLogger("taskito.worker")

#: Seconds a wait without a wakeup lasts at most. The loop has timers of its own, so this is a second net.
_LONGEST_WAIT = 60.0
#: Jobs removed by one pruning.
PRUNE_BATCH = 500
#: Jobs of each kind that one sweep deals with.
SWEEP_BATCH = 1000


class StoreCalls:
    """The calls on the storage, and on what stands beside it, that each request means."""

    def __init__(
        self, storage: Storage, plugins: Plugins, admission: AdmissionControl, schedules: Schedules
    ) -> None:
        self._storage = storage
        self._plugins = plugins
        self._admission = admission
        self._schedules = schedules
        self._stopping_told = False

    def perform(self, request: Request) -> Reply:
        """Do it, on the store thread; raises what the storage raises."""
        match request:
            case requests.ExchangeJobs():
                return self._exchange(request)
            case requests.SendHeartbeat():
                return requests.HeartbeatSent(self.beat(request))
            case requests.RecordNotes(notes):
                self._record_notes(notes)
                return requests.NotesRecorded()
            case requests.DoUpkeep(kind, worker):
                return self._upkeep(kind, worker)
            case requests.RescueJobs(suspects):
                return requests.JobsRescued(self._storage.rescue(suspects))
            case requests.Register(worker):
                self._storage.register(worker)
                return requests.Registered()
            case requests.Listen(worker, first):
                if first:
                    self._plugins.observe("taskito_worker_started", worker=worker)
                return requests.Listening()
            case requests.Unregister(worker):
                self._unregister(worker)
                return requests.Unregistered()

    def beat(self, request: requests.SendHeartbeat) -> Beat:
        """From any thread."""
        return self._storage.heartbeat(request.worker_id, request.running)

    def listen(self, worker: WorkerInfo) -> Wakeups:
        return self._storage.listen(worker.id, worker.queues)

    def close(self) -> None:
        """Give back every connection. Nothing more is asked afterwards."""
        self._admission.close()
        self._storage.close()

    def _exchange(self, request: requests.ExchangeJobs) -> requests.ExchangeResult:
        """One exchange; guarded tasks are claimed as far as their limits let them."""
        permit, want = None, request.want
        if want is not None and self._admission.guarded:
            permit = self._admission.ask(self._storage, want, request.free, request.endings)
            want = permit.want
        outcomes = request.outcomes
        try:
            exchange = self._storage.exchange(request.worker_id, outcomes, want)
        except Exception:
            if permit is not None:
                self._admission.unclaimed(permit)
            raise
        if finished := [outcome for outcome in outcomes if outcome.job_id in exchange.recorded]:
            self._plugins.observe("taskito_jobs_finished", outcomes=finished)
        told = self._admission.record(request.endings)
        if permit is None:
            return requests.ExchangeResult(exchange, more=told.more, shut=told.shut)
        unguarded = self._admission.claimed(permit, exchange.claims, exchange.now)
        more = told.more or self._admission.more(permit, exchange.claims)
        shut = told.shut | permit.shut
        return requests.ExchangeResult(exchange, unguarded, more, permit.retry_after(), shut)

    def _record_notes(self, notes: Sequence[Note]) -> None:
        """What the store refuses is dropped, for it would be refused again."""
        try:
            self._storage.note(notes)
        except StorageUnavailable:
            raise
        except StorageError as exc:
            log.error("%d notes of jobs cannot be stored: %s", len(notes), exc)

    def _upkeep(self, kind: Upkeep, worker: WorkerInfo) -> Reply:
        match kind:
            case Upkeep.PRUNE:
                # A claim can commit just after its worker was declared dead and its jobs were rescued: that
                # worker is no longer a peer of any other, so no suspicion would ever lead to this job.
                self._storage.rescue({})
                return requests.JobsPruned(self._storage.prune(PRUNE_BATCH))
            case Upkeep.SWEEP:
                return requests.JobsSwept(self._storage.sweep(SWEEP_BATCH))
            case Upkeep.FIRE:
                return requests.CronFired(self._schedules.fire(self._storage))
            case Upkeep.CHECK:
                # As a rule this worker serves them all itself, and nobody asks about the others.
                lanes = unserved_lanes(self._storage.lanes(), [worker])
                return requests.UnservedLanesFound(
                    unserved_lanes(((one.queue, one.task_name) for one in lanes), self._storage.workers())
                    if lanes
                    else []
                )

    def _unregister(self, worker: WorkerInfo) -> None:
        if not self._stopping_told:
            self._stopping_told = True
            self._plugins.observe("taskito_worker_stopping", worker=worker)
        self._storage.unregister(worker.id)


class StoreThread:
    """Performs requests beside the loop."""

    def __init__(self, calls: StoreCalls, post: Callable[[Reply | requests.Wakeup], None]) -> None:
        self._calls = calls
        self._post = post
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        #: At most one; to take it out is to own it, and that is atomic.
        self._standing_by: deque[Request] = deque()
        self._wakeups: Wakeups | None = None
        self._thread = threading.Thread(target=self._run, name="taskito-store", daemon=True)
        self._beat: threading.Thread | None = None  #: sends the last heartbeat beside a slow request

    def start(self) -> None:
        self._thread.start()

    def request(self, request: Request) -> None:
        """Have it performed after those before it; its reply is posted."""
        self._requests.put(request)
        self._interrupt()

    def beat_beside(self, request: requests.SendHeartbeat) -> None:
        """Send a heartbeat at once, beside the request that is not answered yet. One at a time."""
        self._beat = threading.Thread(
            target=self._beat_once, args=(request,), name="taskito-heartbeat", daemon=True
        )
        self._beat.start()

    def stand_by(self, request: Request) -> None:
        """Have it performed at the next wakeup, in place of posting that."""
        self._standing_by.append(request)

    def stand_down(self) -> bool:
        """Take back what stands by; False if a wakeup came first: then its reply is posted, or will be."""
        try:
            self._standing_by.pop()
        except IndexError:
            return False
        return True

    def stop(self, timeout: float) -> bool:
        """Finish the requests at hand, close the storage and end; False if it did not within ``timeout``."""
        give_up = time.monotonic() + timeout
        self.stand_down()
        if self._beat is not None:
            self._beat.join(timeout)  # It would open again what the other thread closes.
        self._requests.put(None)
        self._interrupt()
        self._thread.join(max(0.0, give_up - time.monotonic()))
        return not self._thread.is_alive()

    def _interrupt(self) -> None:
        wakeups = self._wakeups
        if wakeups is not None:
            wakeups.interrupt()

    def _beat_once(self, request: requests.SendHeartbeat) -> None:
        beat = None
        try:
            beat = self._calls.beat(request)
        except BaseException as exc:
            log.debug("no heartbeat beside a slow request: %s", exc)
        self._post(requests.ExtraHeartbeatSent(beat))

    # ---- on the thread ----

    def _run(self) -> None:
        while (request := self._next()) is not None:
            try:
                reply = self._perform(request)
            except Exception as exc:
                reply = requests.Failed(request, exc)
            except BaseException as exc:
                # Without this thread the worker would hang for ever: nothing in a plugin ends it.
                reply = requests.Failed(request, StorageUnavailable(f"{type(exc).__name__}: {exc}"))
            self._post(reply)
        self._hang_up()
        self._calls.close()

    def _perform(self, request: Request) -> Reply:
        if isinstance(request, requests.Listen):
            self._hang_up()
            self._wakeups = self._calls.listen(request.worker)
        return self._calls.perform(request)

    def _hang_up(self) -> None:
        if self._wakeups is not None:
            self._wakeups.close()

    def _next(self) -> Request | None:
        """The next request; listens for wakeups until there is one. None: the end."""
        while True:
            if self._wakeups is None:
                return self._requests.get()
            try:
                return self._requests.get_nowait()
            except queue.Empty:
                if self._woken(self._wakeups):
                    try:
                        return self._standing_by.pop()
                    except IndexError:
                        self._post(requests.Wakeup())

    def _woken(self, wakeups: Wakeups) -> bool:
        try:
            return wakeups.wait(_LONGEST_WAIT)
        except BaseException:
            # It promises not to raise; but without this thread the worker would hang for ever.
            log.exception("the storage's wakeups broke; new jobs are found by looking every few seconds")
            self._wakeups = None
            return False
