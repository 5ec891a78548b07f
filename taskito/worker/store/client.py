"""What the worker wants from the store next: one request at a time, in the order that matters.

Sits between the loop and the store thread. Knows when to look for jobs, when to beat, whom to rescue, and
how to go on after the store was away. Decides nothing about jobs: that is the dispatcher's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import NEVER, Entry, Lane
from taskito.worker.ipc.failure_events import Notice, notices_of
from taskito.worker.store.errands import PRUNE_BATCH, Errands, Visit
from taskito.worker.store.failures import log_failures
from taskito.worker.store.identity import TokenMint, new_worker_id
from taskito.worker.store.job_log import Notebook
from taskito.worker.store.lease import BEAT_INTERVAL, PeerWatch
from taskito.worker.store.liveness import Neighbours
from taskito.worker.store.outbox import Batches
from taskito.worker.store.rounds import AGAIN_AFTER, Round, Rounds
from taskito.worker.store.thread import Answer, StoreThread
from taskito.worker.store.timers import Looks
from taskito_core.errors import ConfigError, StorageError, StorageUnavailable
from taskito_core.job import Complete, Release, Retry
from taskito_core.storage import Storage
from taskito_core.storage_worker import Beat, Note, Swept, Want, WorkerInfo

log = logging.getLogger("taskito.worker")

#: Seconds between attempts while the store is away: doubling, from the first to the last.
RETRY_FIRST, RETRY_LAST = 0.1, 2.0
#: Seconds a claim the store knows and we do not must stay so, before it is handed back.
STRAY_AFTER = BEAT_INTERVAL
#: Seconds between a heartbeat and the next that a wakeup may cause.
HURRY = 0.1


class StoreDesk:
    """The worker's business with the store."""

    def __init__(
        self,
        storage: Storage,
        worker: WorkerInfo,
        dispatcher: Dispatcher,
        errands: Errands,
        post: Callable[[Answer], None],
        woken: Callable[[], None],
        neighbours: Neighbours,
        on_disowned: Callable[[Sequence[int]], None],
        on_cancelled: Callable[[Lane, Entry, bool], None],
        on_failed: Callable[[Sequence[Notice]], None],
        rename: Callable[[str], None],
    ) -> None:
        self.worker = worker
        self._dispatcher = dispatcher
        self._errands = errands
        self.notebook = Notebook()
        self._batches = Batches(dispatcher)
        self._rounds = Rounds()
        self._errand_of: dict[Round, Callable[[], object]] = {
            Round.PRUNE: errands.tidy,
            Round.SWEEP: errands.sweep,
            Round.FIRE: errands.fire,
        }
        self._thread = StoreThread(storage, post, woken, errands.close)
        self._neighbours = neighbours
        self._on_disowned = on_disowned
        self._on_cancelled = on_cancelled
        self._on_failed = on_failed  #: attempts that failed and of which the app's hooks are to be told
        self._rename = rename  #: tells the lifeline under which id it is known from now on
        self._tokens = TokenMint()
        self._peers = PeerWatch()
        self._batch: list[Entry] = []  #: outcomes inside the exchange under way
        self._notes: list[Note] = []  #: notes inside the request under way
        self._strays: dict[tuple[str, int], float] = {}
        self._suspects: dict[str, int] = {}
        self._queue_turn = 0
        self._wanted = 0
        self._looks = Looks()
        self._beat_at = 0.0
        self._beaten_at = 0.0  #: when the last heartbeat was sent
        self._retry_at = 0.0
        self._retry_delay = RETRY_FIRST
        self._busy = False
        self._standing_by = False  #: an exchange waits on the store thread for the next wakeup
        self._leaving = False
        self.failing_since: float | None = None  #: None: the last request was answered
        self.trouble: Exception | None = None  #: how the last request failed, if the store did not answer it
        self.registered = False
        self.booting = True  #: never registered so far
        self._enrolled = False  #: this id is in the store, if not all that belongs to registering is done
        self.fatal: Exception | None = None  #: the store refused to have us at all
        self.left = False  #: unregistered, in good order

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        return self._thread.stop(timeout)

    # ---- what to do next ----

    def woken(self, now: float) -> None:
        """Something may have arrived: a job, or word that one is to be cancelled."""
        self._looks.at_once()
        self._hurry()

    def _hurry(self) -> None:
        if not self._dispatcher.idle():
            self._beat_at = min(self._beat_at, self._beaten_at + HURRY)

    def turn(self, now: float) -> None:
        """Send the next request, if there is one and the last was answered."""
        if self._busy or now < self._retry_at or self.left or self.fatal is not None:
            return
        if self._standing_by and not self._thread.stand_down():
            self._busy = True  # A wakeup came first: what stood by is under way, and its answer comes.
            return
        self._standing_by = False
        self._choose(now)
        if not self._busy:
            self._stand_by(now)

    def _choose(self, now: float) -> None:
        if not self.registered:
            worker, known, first = self.worker, self._enrolled, self.booting
            self._request("register", lambda: self._register(worker, known, first))
        elif self._leaving and self._dispatcher.idle() and self.notebook.due() == NEVER:
            self._request("unregister", lambda: self._errands.unregister(self.worker))
        elif now >= self._beat_at:
            self._heartbeat(now)
        elif self._suspects:
            suspects = self._suspects
            self._request("rescue", lambda: self._errands.rescue(suspects))
        elif self._notes_are_due(now):
            self._notes = notes = self.notebook.take()
            self._request("note", lambda: self._errands.note(notes))
        # Before the exchange: under load one is always due.
        elif not self._dispatcher.draining and (due := self._rounds.due(now)) is not None:
            self._request(due, self._errand_of[due])
        elif self._exchange_is_due(now):
            self._exchange(now)

    def next_deadline(self) -> float:
        """When ``turn`` has something to do next without an event; infinity: never."""
        if self._busy or self.left or self.fatal is not None:
            return NEVER
        if not self.registered or self._batches.waiting or self._leaving:
            return self._retry_at
        due = min(self._beat_at, self.notebook.due())
        if not self._dispatcher.draining:
            due = min(due, self._rounds.next())
            if (
                self._dispatcher.want() > 0
            ):  # Otherwise the look waits for a free child, and that is an event.
                due = min(due, self._looks.next(self._dispatcher.free()))
        return max(self._retry_at, due)

    def leave(self) -> None:
        """Nothing is in custody any more: unregister."""
        self._leaving = True

    def peer_gone(self) -> None:
        """A peer on this host is gone: look at once what the store knows of it."""
        self._beat_at = 0.0

    # ---- requests ----

    def _stand_by(self, now: float) -> None:
        """Nothing is to be done: have the store thread claim by itself as soon as something arrives."""
        limit, free = self._dispatcher.want(), self._dispatcher.free()
        if limit > 0 and self.registered and not (self._leaving or self._looks.is_due(now, free)):
            self._standing_by, self._wanted = True, limit
            worker_id, want = self.worker.id, self._want(limit)
            self._thread.stand_by("exchange", lambda: self._errands.visit(worker_id, (), {}, want, free))

    def _request(self, name: str, function: Callable[[], object]) -> None:
        self._busy = True
        self._thread.request(name, function)

    def _register(self, worker: WorkerInfo, known: bool, first: bool) -> None:
        """On the store thread."""
        if not known:
            self._errands.register(worker)
            self._enrolled = True
        self._thread.listen(worker.id, worker.queues)
        if first:
            self._errands.greet(worker)

    def _heartbeat(self, now: float) -> None:
        self._beat_at, self._beaten_at = now + BEAT_INTERVAL, now
        worker_id, running = self.worker.id, self._dispatcher.holding()
        self._request("heartbeat", lambda: self._errands.beat(worker_id, running))

    def _notes_are_due(self, now: float) -> bool:
        """What a job said is stored before its outcome."""
        due = self.notebook.due()
        return due <= now or (due != NEVER and self._batches.waiting)

    def _exchange_is_due(self, now: float) -> bool:
        return self._batches.waiting or self._next_limit(now) > 0

    def _exchange(self, now: float) -> None:
        batch, alone = self._batches.take()
        self._batch = batch
        self._wanted = limit = 0 if alone else self._next_limit(now)
        want = self._want(limit) if limit > 0 else None
        outcomes = [entry.outcome for entry in batch if entry.outcome is not None]
        worker_id, free = self.worker.id, self._dispatcher.free()
        endings = self._errands.judged(batch)
        self._request("exchange", lambda: self._errands.visit(worker_id, outcomes, endings, want, free))

    def _next_limit(self, now: float) -> int:
        """How many jobs to ask for now."""
        return self._dispatcher.want() if self._looks.is_due(now, self._dispatcher.free()) else 0

    def _want(self, limit: int) -> Want:
        # Every queue is the first one in its turn: a full one must not starve the others.
        queues = self.worker.queues
        self._queue_turn = (self._queue_turn + 1) % len(queues)
        queues = queues[self._queue_turn :] + queues[: self._queue_turn]
        return Want(limit, queues, self.worker.tasks, self._tokens.draw())

    # ---- answers ----

    def answer(self, answer: Answer, now: float) -> None:
        """Take in what came of the request under way."""
        unasked, self._busy, self._standing_by = self._standing_by, False, False
        if answer.error is not None:
            self._failed(answer, answer.error, now)
            return
        if self.failing_since is not None:
            log.warning("the store answers again after %.1f s", now - self.failing_since)
            self._rounds.sooner(Round.FIRE, now)  # Slots may have passed meanwhile.
        self.failing_since = self.trouble = None
        self._retry_delay = RETRY_FIRST
        match answer.name, answer.value:
            case "register", _:
                self.registered, self.booting = True, False
            case "exchange", Visit() as visit:
                self._visited(visit, now)
                if unasked and not visit.exchange.claims:
                    self._hurry()  # It rang, and not for a new job.
            case "heartbeat", Beat() as beat:
                self._beaten(beat, now)
            case "rescue", list() as rescued:
                self._rescued(rescued)
            case Round.PRUNE, int() as pruned:
                self._rounds.done(Round.PRUNE, now, 0.1 if pruned >= PRUNE_BATCH else None)
            case Round.SWEEP, Swept() as swept:
                self._swept(swept, now)
            case Round.FIRE, float() as pause:
                self._rounds.done(Round.FIRE, now, pause)
            case "unregister", _:
                self.left = True

    def _visited(self, visit: Visit, now: float) -> None:
        exchange = visit.exchange
        batch, self._batch = self._batch, []
        for entry in self._dispatcher.settled(batch, exchange.recorded):
            log.warning("job %s was given to another worker meanwhile; its result is dropped", entry.claim.id)
        # Nearly all of them are results, of which nothing more is to be said.
        others = [entry for entry in batch if type(entry.outcome) is not Complete]
        if failed := [entry for entry in others if entry.claim.id in exchange.recorded]:
            log_failures(failed)
            if notices := notices_of(failed, self.worker.id, exchange.now):
                self._on_failed(notices)
        if not exchange.alive and self._wanted:
            self._declared_dead()
            return
        self._dispatcher.claimed(exchange.claims, now, visit.strays)
        if len(exchange.claims) < self._wanted:
            self._looks.fell_short(now, visit.retry_after, visit.more)
            if exchange.next_due is not None:
                self._looks.by(now + _until(exchange.next_due, exchange.now))
        elif self._wanted or exchange.opened or visit.more:
            self._looks.at_once()  # Also after one that stood by: there may be more, and nobody rings for it.
        if exchange.sweep_at is not None:
            self._rounds.sooner(Round.SWEEP, now + _until(exchange.sweep_at, exchange.now))
        self._look_for_returned(others, now)

    def _swept(self, swept: Swept, now: float) -> None:
        pause = None if swept.next_at is None else _until(swept.next_at, swept.now)
        self._rounds.done(Round.SWEEP, now, pause)
        if swept.opened:
            self._looks.at_once()

    def _look_for_returned(self, batch: list[Entry], now: float) -> None:
        """What went back by our own hand rings nobody here, and may fall due before the next look."""
        for entry in batch:
            match entry.outcome:
                case Retry(delay=delay) | Release(delay=float() as delay):
                    self._looks.by(now + delay)
                    if entry.policy.concurrency:
                        self._rounds.sooner(Round.SWEEP, now + delay)  # It waits behind a gate for its time.
                case Release(lane=None):
                    self._looks.at_once()

    def _rescued(self, job_ids: list[str]) -> None:
        for worker_id in self._suspects:
            self._neighbours.bury(worker_id)
        self._suspects = {}
        if job_ids:
            log.warning("rescued %d jobs of dead workers: %s", len(job_ids), ", ".join(job_ids[:20]))
            self._looks.at_once()

    def _beaten(self, beat: Beat, now: float) -> None:
        if not beat.alive:
            self._declared_dead()
            return
        self._release_strays(beat.unknown_to_me, now)
        self._cancel(beat.cancels)
        if beat.unknown_to_store:
            self._disown(beat.unknown_to_store)
        here = {peer.worker_id for peer in beat.peers if peer.host == self.worker.host}
        self._suspects = self._peers.look(beat.peers, now, self._neighbours.watch(here))
        for worker_id in self._suspects:
            log.warning("worker %s is dead; what it ran is rescued", worker_id)

    def _cancel(self, asked: Mapping[str, bool]) -> None:
        for lane, entry in self._dispatcher.give_up(asked):
            self._on_cancelled(lane, entry, asked[entry.claim.id])

    def _release_strays(self, unknown: Sequence[tuple[str, int]], now: float) -> None:
        """A claim whose answer was lost can commit after we reconnected: the store says we run it."""
        holding = set(self._dispatcher.holding())
        seen = {pair: self._strays.get(pair, now) for pair in unknown if pair not in holding}
        ripe = [pair for pair, since in seen.items() if now - since >= STRAY_AFTER * 0.9]
        self._strays = {pair: since for pair, since in seen.items() if pair not in ripe}
        for job_id, token in ripe:
            log.warning("job %s was claimed by us without our knowing; it goes back", job_id)
            self._dispatcher.release_stray(job_id, token)

    def _declared_dead(self) -> None:
        """Our lease ran out and a peer took what we had: end it here, and begin anew under a new id."""
        log.error("the store holds this worker for dead: what it runs is ended, and it registers anew")
        self._disown(frozenset(job_id for job_id, _ in self._dispatcher.holding()))
        self.registered = False
        self._strays.clear()
        self._take_new_id()

    def _take_new_id(self) -> None:
        self._enrolled = False
        self.worker = replace(self.worker, id=new_worker_id())
        self._rename(self.worker.id)

    def _disown(self, job_ids: frozenset[str]) -> None:
        if lanes := self._dispatcher.disown(job_ids):
            self._on_disowned(lanes)

    # ---- trouble ----

    def _failed(self, answer: Answer, error: Exception, now: float) -> None:
        batch, self._batch = self._batch, []
        notes, self._notes = self._notes, []
        self.notebook.put_back(notes, now)
        refused = isinstance(error, StorageError) and not isinstance(error, StorageUnavailable)
        if refused and answer.name == "exchange" and batch:
            self._batches.refused(batch, error)
            return
        if not self.registered and (refused or isinstance(error, ConfigError)):
            self.fatal = error
            return
        self.trouble = error
        if refused:
            log.error("the store refused %s: %s", answer.name, error)
        elif self.failing_since is None:
            # Also what is no StorageError at all, such as running out of descriptors, may pass.
            self.failing_since = now
            meanwhile = "trying again" if self.booting else "running jobs go on, results are kept"
            log.warning("the store does not answer: %s; %s", error, meanwhile)
        self._dispatcher.unsettled(batch)
        self._retry_at = now + self._retry_delay
        self._retry_delay = min(RETRY_LAST, self._retry_delay * 2)
        if answer.name == "register" and not self._enrolled:
            self._take_new_id()  # It may have been recorded all the same, and no id is registered twice.
        elif answer.name == "heartbeat":
            self._beat_at = now
        elif answer.name == "rescue":
            self._suspects = {}  # The next beat finds them again.
        elif answer.name in self._errand_of:
            self._rounds.done(Round(answer.name), now, AGAIN_AFTER)


def _until(moment: int, now: int) -> float:
    """Seconds from one moment of the store's clock to another, 0 if it has passed."""
    return max(0.0, (moment - now) / 1000)
