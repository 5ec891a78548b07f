"""Exchanging outcomes for claims, on the worker's own connection."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors

from taskito_core import Claim, Exchange, Outcome, Want
from taskito_postgres import settle
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.connection import again
from taskito_postgres.gates import Cascade, GatesMixin
from taskito_postgres.session import Cursor, RoundTrip, Session
from taskito_postgres.sql import claim as sql
from taskito_postgres.sql import wakeups
from taskito_postgres.sql.settle import LOCKED_BY_OTHERS

log = logging.getLogger("taskito.postgres")

#: Milliseconds after which to claim again where a due job was held by another transaction just now.
HELD_AGAIN = 5
#: The same where not all of the queue was looked through, or the second claim failed.
CLAIM_AGAIN = 1000

_CLAIM_FIELDS = len(Claim._fields)


class ClaimMixin(GatesMixin):
    """``exchange`` and ``peek`` of the contract."""

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
        wanted = None if want is None or want.limit < 1 else _Wanted(worker_id, want, self.clock_shift)
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
        if len(recorded) < len(outcomes):
            # Tried again by itself: what was claimed above must not be claimed a second time.
            rest = [outcome for outcome in outcomes if outcome.job_id not in recorded]
            recorded |= again(lambda session: self._send_again(session, rest, cascade), session)
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

    # ---- 1: record ----

    def _send_again(self, session: Session, outcomes: Sequence[Outcome], cascade: Cascade) -> set[str]:
        """Outcomes that matched no row: fenced, recorded earlier, or passed over because the row changed."""
        with session.round_trip() as trip:
            settling = settle.send_again(trip, self._statements, outcomes, self.clock_shift)
        return settling.recorded(cascade)

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
        self, trip: RoundTrip, worker_id: str, wanted: _Wanted | None, asks_due: bool, lazily: bool
    ) -> _Claiming:
        taken = due = None
        if wanted is not None:
            taken = trip.run(self._statements[wanted.statement], wanted.parameters)
            if asks_due:
                due = trip.run(self._statements[sql.NEXT_DUE], wanted.parameters)
        capped = wanted is not None and wanted.capped
        return _Claiming(taken, due, self._ask_state(trip, worker_id, lazily), capped=capped)

    def _ask_state(self, trip: RoundTrip, worker_id: str, lazily: bool) -> Cursor:
        parameters = {"worker": worker_id, "shift": self.clock_shift, "lazily": lazily}
        return trip.run(self._statements[sql.WORKER_STATE], parameters)

    # ---- 4: mark as waiting ----

    def _after_commit(
        self, session: Session, worker_id: str, wanted: _Wanted | None, cascade: Cascade, found: _Found
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
        if not (cascade.awaited or cascade.queues or marks or claims):
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
        if cascade.queues:
            arrivals = self._arrivals(sorted(cascade.queues), worker_id)
            trip.run(self._statements[wakeups.NOTIFY_WORKERS], arrivals)
            trip.commit()

    def _claim_again(self, trip: RoundTrip, worker_id: str, wanted: _Wanted, found: _Found) -> _Claiming:
        rest = wanted.rest(found)
        in_order = not found.complete
        statement = sql.CLAIM_IN_ORDER if in_order else wanted.statement
        taken = trip.run(self._statements[statement], rest)
        due = trip.run(self._statements[sql.NEXT_DUE], rest)
        state = self._ask_state(trip, worker_id, lazily=True)
        return _Claiming(taken, due, state, capped=wanted.capped, in_order=in_order)

    def _add(self, found: _Found, more: _Found) -> None:
        found.claims += more.claims
        found.now, found.alive, found.next_due = more.now, more.alive, more.next_due
        found.sweep_at = more.sweep_at
        self._claimed += len(more.claims)


@dataclass(slots=True)
class _Found:
    """What one claim brought."""

    claims: list[Claim]
    now: int
    alive: bool
    waiting: str | None  #: what the worker is marked as waiting for
    next_due: int | None
    knows_due: bool  #: False: next_due was not asked for
    complete: bool = True  #: False: there are more priorities than the steps went
    held: bool = False  #: a due job was passed over: a transaction held it at that moment
    sweep_at: int | None = None
    lanes: Counter[str] = field(default_factory=Counter)  #: claims of each lane, if lanes are capped


class _Wanted:
    """A ``Want``, as the parameters of CLAIM and NEXT_DUE."""

    __slots__ = ("_caps", "limit", "parameters", "statement", "waiting")

    def __init__(self, worker_id: str, want: Want, shift: int) -> None:
        self.limit = want.limit
        self.waiting = json.dumps(sorted(want.queues))  #: the mark of a worker that waits for it
        self.statement = sql.CLAIM_CAPPED if want.caps else sql.CLAIM
        self._caps = want.caps
        self.parameters: dict[str, Any] = {
            "worker": worker_id,
            "queues": Texts(want.queues),
            "tasks": Texts(want.tasks),
            "limit": want.limit,
            "token": want.token,
            "shift": shift,
            **_caps(want.caps),
        }

    @property
    def capped(self) -> bool:
        return bool(self._caps)

    def rest(self, found: _Found) -> dict[str, Any]:
        """The parameters of what is still wanted after a first claim; lanes that are used up are left out."""
        rest = {**self.parameters, "limit": self.limit - len(found.claims)}
        if self._caps:
            left = {lane: cap - found.lanes[lane] for lane, cap in self._caps.items()}
            tasks = [task for task in self.parameters["tasks"].values if left.get(task, 1) > 0]
            rest |= {"tasks": Texts(tasks), **_caps(left)}
        return rest


def _caps(caps: Mapping[str, int]) -> dict[str, Any]:
    return {"capped": Texts(caps.keys()), "caps": Bigints(max(cap, 0) for cap in caps.values())}


class _Claiming:
    """A claim on its way; ``found`` reads the answers once the round trip is over."""

    __slots__ = ("_capped", "_due", "_in_order", "_state", "_taken")

    def __init__(
        self, taken: Cursor | None, due: Cursor | None, state: Cursor, *, capped: bool, in_order: bool = False
    ) -> None:
        self._taken = taken
        self._due = due
        self._state = state
        self._capped = capped
        self._in_order = in_order

    def found(self) -> _Found:
        [(now, alive, waiting, _)] = self._state.fetchall()
        due = None if self._due is None else self._due.fetchone()
        earliest, depth, sweep_at = due or (None, None, None)
        held = earliest is not None and earliest <= now
        if earliest is not None:
            # Due and yet not claimed: held by a transaction that may be over in a moment.
            earliest = max(earliest, now + HELD_AGAIN)
        complete = depth is None or depth < sql.MAX_STEPS
        if not complete:
            next_claim = now + (CLAIM_AGAIN if self._in_order else HELD_AGAIN)
            earliest = min(earliest or next_claim, next_claim)
        rows = [] if self._taken is None else sorted(self._taken.fetchall(), key=_position)
        return _Found(
            claims=[Claim._make(row[:_CLAIM_FIELDS]) for row in rows],
            now=now,
            alive=alive,
            waiting=waiting,
            next_due=earliest,
            knows_due=self._due is not None,
            complete=complete,
            held=held,
            sweep_at=sweep_at,
            lanes=Counter(row[-1] for row in rows) if self._capped else Counter(),
        )


def _position(row: tuple[Any, ...]) -> int:
    position: int = row[_CLAIM_FIELDS]
    return position
