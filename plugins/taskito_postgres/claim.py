"""Exchanging outcomes for claims, on the worker's own connection."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

import psycopg
from psycopg import errors

from taskito_core import Claim, Exchange, Outcome, Want
from taskito_postgres import settle
from taskito_postgres.arrays import Texts
from taskito_postgres.connection import again
from taskito_postgres.gates import Cascade, GatesMixin
from taskito_postgres.queues import limits
from taskito_postgres.queues.wanted import (
    CLAIM_AGAIN,
    CLAIM_FIELDS,
    HELD_AGAIN,
    Claiming,
    Found,
    Wanted,
    position_of,
)
from taskito_postgres.session import Cursor, RoundTrip, Session
from taskito_postgres.sql import claim as sql
from taskito_postgres.sql import wakeups
from taskito_postgres.sql.settle import LOCKED_BY_OTHERS

log = logging.getLogger("taskito.postgres")


class ClaimMixin(GatesMixin):
    """``exchange`` and ``peek`` of the contract."""

    _limited: frozenset[str] = frozenset()  #: queues that had limits at the last exchange
    _frees = False  #: the exchange under way may have left room in one of them

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        return self._connections.on_worker(
            "record outcomes and claim jobs",
            lambda session: self._exchange_unlocked(session, worker_id, outcomes, want),
        )

    def peek(self, queues: Sequence[str], lanes: Sequence[str]) -> Mapping[str, int]:
        statement = self._statements[sql.PEEK]
        parameters = {"queues": Texts(queues), "lanes": Texts(lanes), "shift": self.clock_shift}
        rows = self._connections.on_worker(
            "look at lanes", lambda session: session.rows(statement, parameters)
        )
        return dict(rows)

    def lanes(self) -> list[tuple[str, str]]:
        statement = self._statements[sql.LANES]
        return self._connections.on_worker("read the lanes", lambda session: session.rows(statement, {}))

    def _exchange_unlocked(
        self, session: Session, worker_id: str, outcomes: Sequence[Outcome], want: Want | None
    ) -> Exchange:
        """Exchange, but leave out the outcomes whose rows other transactions hold past the lock timeout."""
        try:
            return self._exchange(session, worker_id, outcomes, want)
        except errors.LockNotAvailable:
            # complete_in, and then no commit: the others need not wait for it. If that transaction is undone
            # after all, the store still holds the job for running here, which the next heartbeat settles.
            ids = {"ids": Texts(outcome.job_id for outcome in outcomes)}
            held = {row[0] for row in session.rows(self._statements[LOCKED_BY_OTHERS], ids)}
            if not held:
                raise
            log.warning(
                "left to the transactions that hold them: the outcomes of %s", ", ".join(sorted(held))
            )
        free = [outcome for outcome in outcomes if outcome.job_id not in held]
        return self._exchange(session, worker_id, free, want)

    def _exchange(
        self, session: Session, worker_id: str, outcomes: Sequence[Outcome], want: Want | None
    ) -> Exchange:
        """One round trip while there is enough to do; more to run a cascade or to mark it as waiting."""
        if want is not None and want.limit > 0 and not self._limited.isdisjoint(want.queues):
            return self._exchange_limited(session, worker_id, outcomes, want)
        wanted = None if want is None or want.limit < 1 else Wanted(worker_id, want, self.clock_shift)
        cascade = Cascade()
        # A worker that waits wants to know when to claim again; a busy one will claim anyway.
        asks_due = wanted is not None and wanted.waiting == self._marked
        with session.round_trip() as trip:
            settling = settle.send(trip, self._statements, outcomes, self.clock_shift)
            # A claim alone may be lost with the server: it is claimed again. What ended may not.
            claiming = self._claim(trip, worker_id, wanted, asks_due, lazily=not outcomes)
        recorded = settling.recorded(cascade)
        found = claiming.found()
        if cascade.pending:
            # It may open the best job there is, so the statement above has claimed nothing.
            self._try_cascade(session, cascade)
            with session.round_trip() as trip:
                claiming = self._claim(trip, worker_id, wanted, asks_due, lazily=True)
            found = claiming.found()
        self._marked = found.waiting
        self._claimed += len(found.claims)
        self._send_rest_again(session, outcomes, recorded, cascade)
        self._limited = found.limited
        self._frees = bool(outcomes and self._limited)
        if want is not None and wanted is not None and not self._limited.isdisjoint(want.queues):
            # Their limits were not known, so nothing was claimed.
            self._after_commit(session, worker_id, None, cascade, found)
            more = self._exchange_limited(session, worker_id, [], want)
            opened = more.opened or bool(cascade.queues)
            return more._replace(recorded=frozenset(recorded), opened=opened)
        self._after_commit(session, worker_id, wanted, cascade, found)
        return Exchange(
            frozenset(recorded),
            found.claims,
            found.next_due,
            found.now,
            found.alive,
            found.sweep_at,
            bool(cascade.queues),
        )

    # ---- the same, where wanted queues have limits ----

    def _exchange_limited(
        self, session: Session, worker_id: str, outcomes: Sequence[Outcome], want: Want
    ) -> Exchange:
        """Mark the worker as waiting before it claims: what comes in between is found, or wakes it."""
        wanted, cascade = Wanted(worker_id, want, self.clock_shift), Cascade()
        with session.round_trip() as trip:
            settling = settle.send(trip, self._statements, outcomes, self.clock_shift)
            claiming = self._claim(trip, worker_id, None, False, lazily=not outcomes)
            if self._marked != wanted.waiting:
                trip.commit()
                self._mark(trip, worker_id, wanted.waiting)
        recorded = settling.recorded(cascade)
        self._marked = wanted.waiting
        self._send_rest_again(session, outcomes, recorded, cascade)
        if cascade.pending:
            self._try_cascade(session, cascade)
        found = claiming.found()
        if found.alive:
            found = again(lambda session: self._claim_limited(session, worker_id, want), session)
        self._claimed += len(found.claims)
        if len(found.claims) == want.limit:
            with session.round_trip() as trip:
                self._mark(trip, worker_id, None)
            self._marked = None
        self._limited, self._frees = found.limited, bool(outcomes)
        self._after_commit(session, worker_id, None, cascade, found)
        opened = bool(cascade.queues)
        return Exchange(
            frozenset(recorded), found.claims, found.next_due, found.now, found.alive, found.sweep_at, opened
        )

    def _mark(self, trip: RoundTrip, worker_id: str, waiting: str | None) -> None:
        trip.commit_lazily()
        trip.run(self._statements[sql.SET_WAITING], {"worker": worker_id, "waiting": waiting})

    def _claim_limited(self, session: Session, worker_id: str, want: Want) -> Found:
        """In one transaction: lock limits, claim queue by queue in their order, note tokens."""
        claims: list[Claim] = []
        left = dict(want.caps)
        earliest: list[int] = []
        sweeps: list[int] = []
        with session.transaction():
            run = session.runner(self._statements)
            limited = limits.lock(run, want.queues, self.clock_shift)
            for group in limits.served_together(want.queues, limited):
                alone = limited.get(group[0])
                room = want.limit - len(claims)
                count = room if alone is None else min(room, alone.count)
                part = Wanted(
                    worker_id, want._replace(queues=group, limit=count, caps=left), self.clock_shift
                )
                part.parameters["limited"] = Texts(limited)
                rows = sorted(run(part.statement, part.parameters), key=position_of) if count > 0 else []
                [(due, depth, sweep_at)] = run(sql.NEXT_DUE, part.parameters)
                if len(rows) < count and depth is not None and depth >= sql.MAX_STEPS:
                    rest = {**part.parameters, "limit": count - len(rows)}
                    rows += sorted(run(sql.CLAIM_IN_ORDER, rest), key=position_of)
                claims += [Claim._make(row[:CLAIM_FIELDS]) for row in rows]
                if left:
                    left = {lane: cap - sum(row[-1] == lane for row in rows) for lane, cap in left.items()}
                if alone is not None and (tokens := alone.take(len(rows))) is not None:
                    run(sql.PUT_TOKENS, {"queue": group[0], **tokens._asdict()})
                sweeps += [] if sweep_at is None else [sweep_at]
                if due is not None:
                    earliest.append(due if alone is None or alone.count > 0 else max(due, alone.again_at))
            state = {"worker": worker_id, "shift": self.clock_shift, "lazily": True}
            [(now, alive, _, _, texts)] = run(sql.WORKER_STATE, state)
        next_due = min(earliest, default=None)
        named = frozenset(json.loads(texts or "[]"))
        if next_due is not None:
            next_due = max(next_due, now + HELD_AGAIN)
        if not named.intersection(want.queues) <= limited.keys():
            next_due = now  # They got limits meanwhile.
        sweep_at = min(sweeps, default=None)
        found = Found(claims, now, alive, self._marked, next_due, True, sweep_at=sweep_at)
        found.limited = named
        return found

    # ---- 1: record ----

    def _send_rest_again(
        self, session: Session, outcomes: Sequence[Outcome], recorded: set[str], cascade: Cascade
    ) -> None:
        """Outcomes that matched no row: fenced, recorded earlier, or passed over because the row changed.

        Tried again by themselves: what was claimed with them must not be claimed a second time.
        """
        rest = [outcome for outcome in outcomes if outcome.job_id not in recorded]

        def send(session: Session) -> set[str]:
            with session.round_trip() as trip:
                settling = settle.send_again(trip, self._statements, rest, self.clock_shift)
            return settling.recorded(cascade)

        if rest:
            recorded |= again(send, session)

    # ---- 2: cascade ----

    def _try_cascade(self, session: Session, cascade: Cascade) -> bool:
        """What is left by a failure is done by the next sweep. True if any gate was opened."""
        before = len(cascade.opened)
        try:
            self._run_cascade(session, cascade)
        except psycopg.Error as error:
            log.warning("after an exchange: %s", self._connections.translate(error, "open what may run now"))
        cascade.clear()
        return len(cascade.opened) > before

    # ---- 3: claim ----

    def _claim(
        self, trip: RoundTrip, worker_id: str, wanted: Wanted | None, asks_due: bool, lazily: bool
    ) -> Claiming:
        taken = due = None
        if wanted is not None:
            taken = trip.run(self._statements[wanted.statement], wanted.parameters)
            if asks_due:
                due = trip.run(self._statements[sql.NEXT_DUE], wanted.parameters)
        capped = wanted is not None and wanted.capped
        return Claiming(taken, due, self._ask_state(trip, worker_id, lazily), capped=capped)

    def _ask_state(self, trip: RoundTrip, worker_id: str, lazily: bool) -> Cursor:
        parameters = {"worker": worker_id, "shift": self.clock_shift, "lazily": lazily}
        return trip.run(self._statements[sql.WORKER_STATE], parameters)

    # ---- 4: mark as waiting ----

    def _after_commit(
        self, session: Session, worker_id: str, wanted: Wanted | None, cascade: Cascade, found: Found
    ) -> None:
        """Run what is left of the cascade, notify, and mark a worker that may wait, then claim once more.

        What was recorded and claimed stands; a failure here only means that a job is found a little later.
        """
        opened = cascade.pending and self._try_cascade(session, cascade)
        short = wanted is not None and found.alive and len(found.claims) < wanted.limit
        waiting = wanted.waiting if short and wanted is not None else None
        marks = found.alive and wanted is not None and waiting != found.waiting
        # Often it is result() that holds a new job, for as long as it takes to mark it as awaited.
        claims = short and (marks or not found.knows_due or not found.complete or found.held or opened)
        if not (cascade.awaited or cascade.queues or self._frees or marks or claims):
            return
        try:
            with session.round_trip() as trip:
                self._send_notifications(trip, worker_id, cascade)
                if marks:
                    trip.commit_lazily()
                    parameters = {"worker": worker_id, "waiting": waiting}
                    trip.run(self._statements[sql.SET_WAITING], parameters)
                    trip.commit()
                claiming = self._claim_again(trip, worker_id, wanted, found) if claims and wanted else None
            if marks:
                self._marked = waiting
            if claiming is not None:
                self._add(found, claiming.found())
        except psycopg.Error as error:
            log.warning(
                "after an exchange: %s", self._connections.translate(error, "notify others or claim again")
            )
            found.next_due = found.now + CLAIM_AGAIN

    def _send_notifications(self, trip: RoundTrip, worker_id: str, cascade: Cascade) -> None:
        if cascade.awaited:
            trip.run(self._statements[wakeups.NOTIFY_FINISHED], self._ends(cascade.awaited))
            trip.commit()
        # What ended may have left room in a queue with limits, which no other worker knows of.
        if queues := cascade.queues | (self._limited if self._frees else frozenset()):
            arrivals = self._arrivals(sorted(queues), worker_id)
            trip.run(self._statements[wakeups.NOTIFY_WORKERS], arrivals)
            trip.commit()

    def _claim_again(self, trip: RoundTrip, worker_id: str, wanted: Wanted, found: Found) -> Claiming:
        rest = wanted.rest(found)
        in_order = not found.complete
        statement = sql.CLAIM_IN_ORDER if in_order else wanted.statement
        taken = trip.run(self._statements[statement], rest)
        due = trip.run(self._statements[sql.NEXT_DUE], rest)
        state = self._ask_state(trip, worker_id, lazily=True)
        return Claiming(taken, due, state, capped=wanted.capped, in_order=in_order)

    def _add(self, found: Found, more: Found) -> None:
        found.claims += more.claims
        found.now, found.alive, found.next_due = more.now, more.alive, more.next_due
        found.sweep_at = more.sweep_at
        self._claimed += len(more.claims)
