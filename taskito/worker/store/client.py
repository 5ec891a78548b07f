"""What the worker asks of the store next: one request at a time, in the order that matters.

Sits between the loop and the store thread. Knows when to claim, when to beat, which workers to rescue from,
and how to go on after the store was away. Decides nothing about jobs: that is the dispatcher's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import NEVER, Executor, InFlight
from taskito.worker.ipc.failure_events import FailureEvent
from taskito.worker.store import requests
from taskito.worker.store.admission import AdmissionControl
from taskito.worker.store.claiming import Claiming, seconds_until
from taskito.worker.store.failures import failure_events_of, log_deaths, log_failures
from taskito.worker.store.job_log import JobLogBuffer
from taskito.worker.store.lease import Lease, OrphanClaims, PeerWatch
from taskito.worker.store.liveness import PeerLifelines
from taskito.worker.store.outage import Outage
from taskito.worker.store.outbox import Outbox
from taskito.worker.store.request_timer import RequestTimer
from taskito.worker.store.requests import Reply, Request
from taskito.worker.store.retention import said_of
from taskito.worker.store.thread import PRUNE_BATCH, StoreThread
from taskito.worker.store.timers import AGAIN_AFTER, Upkeep, UpkeepTimers
from taskito.worker.store.unserved_lanes import UnservedLanesWatch
from taskito_core.errors import ConfigError, StorageError, StorageUnavailable
from taskito_core.job import Complete
from taskito_core.storage_worker import Beat, Note, Pruned, Swept, WorkerInfo

log = logging.getLogger("taskito.worker")

#: Milliseconds by which the store's clock may fall behind ours from one heartbeat to the next.
SWING = 2000


class StoreEvents(Protocol):
    """What the store's replies ask of the rest of the worker. On the loop's thread."""

    def jobs_revoked(self, executor_ids: Sequence[int]) -> None:
        """These executors run jobs that the store gave to another worker: end them."""
        ...

    def cancel_asked(self, executor: Executor, entry: InFlight, force: bool) -> None:
        """This job, which the executor holds, was asked to cancel."""
        ...

    def attempts_failed(self, events: Sequence[FailureEvent]) -> None:
        """Attempts that failed, which is recorded, and of which the app's callbacks are to be told."""
        ...

    def renamed(self, worker_id: str) -> None:
        """The worker is known under this id from now on."""
        ...


class StoreClient:
    """The worker's side of its conversation with the store."""

    def __init__(
        self,
        thread: StoreThread,
        admission: AdmissionControl,
        worker: WorkerInfo,
        dispatcher: Dispatcher,
        peers: PeerLifelines,
        events: StoreEvents,
    ) -> None:
        self._thread = thread
        self._admission = admission
        self._dispatcher = dispatcher
        self._events = events
        self._lease = Lease(worker, events.renamed)
        self._peers = peers
        self._watch = PeerWatch()
        self._suspects: dict[str, int] = {}
        self._orphans = OrphanClaims()
        self._outbox = Outbox(dispatcher)
        self._claiming = Claiming(worker, dispatcher)
        self._upkeep = UpkeepTimers()
        self._unserved = UnservedLanesWatch()
        self._outage = Outage()
        self._clock: tuple[int, float] | None = None  #: the store's at the last heartbeat, and ours
        self._batch: list[InFlight] = []  #: outcomes inside the exchange under way
        self._notes: list[Note] = []  #: notes inside the request under way
        self._under_way = RequestTimer()
        self._standing_by = False  #: an exchange waits on the store thread for the next wakeup
        self._leaving = False
        self.job_log = JobLogBuffer()
        self.fatal: Exception | None = None  #: the store refused to have us at all
        self.left = False  #: unregistered, in good order

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """End the store thread; False if it did not within ``timeout`` seconds."""
        self.job_log.report_dropped()
        return self._thread.stop(timeout)

    @property
    def worker(self) -> WorkerInfo:
        """This worker, under its present id."""
        return self._lease.worker

    @property
    def registered(self) -> bool:
        return self._lease.registered

    @property
    def booting(self) -> bool:
        """Never registered so far."""
        return self._lease.booting

    @property
    def busy(self) -> bool:
        """A request is under way."""
        return self._under_way.running

    @property
    def trouble(self) -> Exception | None:
        """How the last request failed, if the store did not answer it."""
        return self._outage.trouble

    # ---- events ----

    def woken(self) -> None:
        """Something may have arrived: a job, or word that one is to be cancelled."""
        self._claiming.woken()
        self._beat_early()

    def peer_gone(self) -> None:
        """A peer on this host is gone: read at once what the store knows of it."""
        self._lease.beat_at_once()

    def leave(self) -> None:
        """Nothing is in flight any more: unregister."""
        self._leaving = True

    def _beat_early(self) -> None:
        if not self._dispatcher.idle():
            self._lease.beat_early()

    # ---- what to do next ----

    def step(self, now: float) -> None:
        """Send the next request, if there is one and the last was answered."""
        self.job_log.report_dropped(now)
        if self._under_way.running:
            if now >= self._beat_beside_at():
                self._under_way.beat_beside(now)
                self._lease.beaten(now)
                self._thread.beat_beside(requests.SendHeartbeat(self.worker.id, self._dispatcher.holding()))
            return
        if now < self._outage.retry_at or self.left or self.fatal is not None:
            return
        if self._standing_by and not self._thread.stand_down():
            # A wakeup came first: what stood by is under way, and its reply comes.
            self._under_way.begin(None, now)
            return
        self._standing_by = False
        if (request := self._next_request(now)) is not None:
            self._under_way.begin(request, now)
            self._thread.request(request)
        else:
            self._stand_by(now)

    def next_deadline(self) -> float:
        """When ``step`` has something to do next without an event; infinity: never."""
        if self._under_way.running:
            return self._beat_beside_at()
        if self.left or self.fatal is not None:
            return NEVER
        if not self.registered or self._outbox.waiting or self._leaving:
            return self._outage.retry_at
        due = min(self._lease.beat_at, self.job_log.due(), self._claiming.next_deadline())
        if not self._dispatcher.draining:
            due = min(due, self._upkeep.next())
        return max(self._outage.retry_at, due)

    def _beat_beside_at(self) -> float:
        """When a heartbeat is due although a request is under way."""
        return max(self._lease.beat_at, self._under_way.slow_at()) if self.registered else NEVER

    def _next_request(self, now: float) -> Request | None:
        if not self.registered:
            return self._lease.registration()
        if self._leaving and self._dispatcher.idle() and self.job_log.due() == NEVER:
            return requests.Unregister(self.worker)
        if now >= self._lease.beat_at:
            self._lease.beaten(now)
            return requests.SendHeartbeat(self.worker.id, self._dispatcher.holding())
        if self._suspects:
            return requests.RescueJobs(self._suspects)
        if self._notes_are_due(now):
            self._notes = self.job_log.take()
            return requests.RecordNotes(self._notes)
        # Before the exchange: under load one is always due.
        if not self._dispatcher.draining and (kind := self._upkeep.due(now)) is not None:
            return requests.DoUpkeep(kind, self.worker)
        if self._outbox.waiting or self._claiming.limit(now) > 0:
            return self._exchange(now)
        return None

    def _notes_are_due(self, now: float) -> bool:
        """What a job wrote is stored before its outcome."""
        due = self.job_log.due()
        return due <= now or (due != NEVER and self._outbox.waiting)

    def _exchange(self, now: float) -> requests.ExchangeJobs:
        batch, alone = self._outbox.take()
        self._batch = batch
        want = self._claiming.want(0 if alone else self._claiming.limit(now), now)
        outcomes = [entry.outcome for entry in batch if entry.outcome is not None]
        endings = self._admission.endings_of(batch)
        return requests.ExchangeJobs(self.worker.id, outcomes, endings, want, self._dispatcher.free())

    def _stand_by(self, now: float) -> None:
        """Nothing is to be done: have the store thread claim by itself as soon as something arrives."""
        if self.registered and not self._leaving and (limit := self._claiming.standby_limit(now)) > 0:
            self._standing_by = True
            want, free = self._claiming.want(limit, now), self._dispatcher.free()
            self._thread.stand_by(requests.ExchangeJobs(self.worker.id, (), {}, want, free))

    # ---- replies ----

    def take(self, reply: Reply, now: float) -> None:
        """Take in what came of the request under way, or of a heartbeat beside it."""
        if isinstance(reply, requests.ExtraHeartbeatSent):
            # Whether we are alive, and what is whose, an ordinary one asks: what is under way may change it.
            self._under_way.beating = False
            if reply.beat is not None:
                self._cancel(reply.beat.cancels)
            return
        self._under_way.end(now)
        unasked, self._standing_by = self._standing_by, False
        if isinstance(reply, requests.Failed):
            self._failed(reply.request, reply.error, now)
            return
        if (away := self._outage.ends(now)) is not None:
            log.warning("the store answers again after %.1f s", away)
            self._upkeep.sooner(Upkeep.FIRE, now)  # Slots may have passed meanwhile.
        match reply:
            case requests.ExchangeResult():
                self._exchanged(reply, now)
                if unasked and not reply.exchange.claims:
                    self._beat_early()  # It was woken, and not for a new job.
            case requests.HeartbeatSent(beat):
                self._beaten(beat, now)
            case requests.NotesRecorded():
                self._notes = []
            case requests.JobsRescued(job_ids):
                self._rescued(job_ids)
            case requests.JobsPruned(pruned):
                self._pruned(pruned, now)
            case requests.JobsSwept(swept):
                self._swept(swept, now)
                self._claiming.swept(reply)
            case requests.CronFired(pause):
                self._upkeep.done(Upkeep.FIRE, now, pause)
            case requests.UnservedLanesFound(unserved):
                self._upkeep.done(Upkeep.CHECK, now, self._unserved.tell(unserved))
            case requests.Registered():
                self._lease.enrolled()
            case requests.Listening():
                self._lease.listening()
            case requests.Unregistered():
                self.left = True

    def _exchanged(self, result: requests.ExchangeResult, now: float) -> None:
        exchange = result.exchange
        batch, self._batch = self._batch, []
        for entry in self._dispatcher.settled(batch, exchange.recorded):
            log.warning("job %s was given to another worker meanwhile; its result is dropped", entry.claim.id)
        # Nearly all of them are results, with which nothing more is to be done.
        others = [entry for entry in batch if type(entry.outcome) is not Complete]
        if failed := [entry for entry in others if entry.claim.id in exchange.recorded]:
            log_failures(failed)
            if events := failure_events_of(failed, self.worker.id, exchange.now):
                self._events.attempts_failed(events)
        if not exchange.alive and self._claiming.wanted:
            self._declared_dead()
            return
        self._dispatcher.claimed(exchange.claims, now, result.unguarded)
        if result.shut:
            self._dispatcher.hand_back(result.shut)
        self._claiming.claimed(result, now)
        if exchange.sweep_at is not None:
            self._upkeep.sooner(Upkeep.SWEEP, now + seconds_until(exchange.sweep_at, exchange.now))
        for entry in others:
            if entry.claim.task_name not in self.worker.tasks:
                self._upkeep.sooner(Upkeep.CHECK, now)
            delay = self._claiming.handed_back(entry.outcome, now)
            if delay is not None and entry.policy.concurrency:
                self._upkeep.sooner(Upkeep.SWEEP, now + delay)  # It waits behind a gate for its time.

    def _pruned(self, pruned: Pruned, now: float) -> None:
        most = max(pruned.jobs, pruned.logs)
        self._upkeep.done(Upkeep.PRUNE, now, 0.1 if most >= PRUNE_BATCH else None)
        if pruned.announce is not None:
            log.info("%s", said_of(pruned.announce))

    def _swept(self, swept: Swept, now: float) -> None:
        pause = None if swept.next_at is None else seconds_until(swept.next_at, swept.now)
        self._upkeep.done(Upkeep.SWEEP, now, pause)
        if swept.set_back:
            by = timedelta(milliseconds=swept.set_back)
            log.warning(
                "the store's clock was set back by %s: what was due until then is due, and waits go on", by
            )
            self._clock_set_back(now)

    def _clock_set_back(self, now: float) -> None:
        """Nothing is due when it was to be: find out at once, and have the store put it right."""
        for kind in Upkeep:
            self._upkeep.sooner(kind, now)
        self._claiming.woken()

    def _rescued(self, job_ids: list[str]) -> None:
        for worker_id in self._suspects:
            self._peers.forget(worker_id)
        log_deaths(self._suspects, job_ids)
        self._suspects = {}
        if job_ids:
            self._claiming.woken()

    def _beaten(self, beat: Beat, now: float) -> None:
        if not beat.alive:
            self._declared_dead()
            return
        if self._clock is not None and beat.now < self._clock[0] + (now - self._clock[1]) * 1000 - SWING:
            self._clock_set_back(now)
        self._clock = (beat.now, now)
        self._release_orphans(beat.unknown_to_me, now)
        self._cancel(beat.cancels)
        if beat.unknown_to_store:
            self._revoke(beat.unknown_to_store)
        here = {peer.worker_id for peer in beat.peers if peer.host == self.worker.host}
        self._suspects = self._watch.observe(beat.peers, now, self._peers.watch(here))

    def _cancel(self, asked: Mapping[str, bool]) -> None:
        for executor, entry in self._dispatcher.give_up(asked):
            self._events.cancel_asked(executor, entry, asked[entry.claim.id])

    def _release_orphans(self, unknown: Sequence[tuple[str, int]], now: float) -> None:
        for job_id, token in self._orphans.ripe(unknown, set(self._dispatcher.holding()), now):
            log.warning("job %s was claimed by us without our knowing; it goes back", job_id)
            self._dispatcher.release_orphan(job_id, token)

    def _declared_dead(self) -> None:
        """Our lease ran out and a peer took what we had: end it here, and begin anew under a new id."""
        log.error("the store holds this worker for dead: what it runs is ended, and it registers anew")
        self._revoke(frozenset(job_id for job_id, _ in self._dispatcher.holding()))
        self._orphans.clear()
        self._lease.lost()

    def _revoke(self, job_ids: frozenset[str]) -> None:
        if executor_ids := self._dispatcher.revoke(job_ids):
            self._events.jobs_revoked(executor_ids)

    # ---- trouble ----

    def _failed(self, request: Request, error: Exception, now: float) -> None:
        batch, self._batch = self._batch, []
        notes, self._notes = self._notes, []
        self.job_log.put_back(notes, now)
        refused = isinstance(error, StorageError) and not isinstance(error, StorageUnavailable)
        if refused and batch and isinstance(request, requests.ExchangeJobs):
            self._outbox.refused(batch, error)
            return
        if refused and isinstance(request, requests.Register) and self._lease.in_doubt:
            self._lease.enrolled()
            return
        if not self.registered and (refused or isinstance(error, ConfigError)):
            self.fatal = error
            return
        if refused:
            log.error("the store refused %s: %s", request.name, error)
        elif self._outage.begins(now):
            # Also what is no StorageError at all, such as running out of descriptors, may pass.
            meanwhile = "trying again" if self.booting else "running jobs go on, results are kept"
            log.warning("the store does not answer: %s; %s", error, meanwhile)
        self._dispatcher.unsettled(batch)
        self._outage.back_off(error, now)
        match request:
            case requests.Register():
                self._lease.enrolment_failed()
            case requests.SendHeartbeat():
                self._lease.beat_at_once()
            case requests.RescueJobs():
                self._suspects = {}  # The next beat finds them again.
            case requests.DoUpkeep(kind):
                self._upkeep.done(kind, now, AGAIN_AFTER)
