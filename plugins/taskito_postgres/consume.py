"""The worker's side: claim, settle, beat, rescue. All of it on the worker's own connection."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from taskito_core import (
    Claim,
    Exchange,
    Outcome,
    StorageError,
    StorageUnavailable,
    Want,
)
from taskito_postgres import claims as claims_sql
from taskito_postgres import settle, sql
from taskito_postgres.aftermath import Loose
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.connection import again
from taskito_postgres.leases import Leases
from taskito_postgres.session import Cursor, Session, Turn

log = logging.getLogger("taskito.postgres")

#: Milliseconds after which to look again for a due job that another transaction held just now.
HELD_AGAIN = 5
#: The same when not all of the queue was looked at, or the second look failed.
LOOK_AGAIN = 1000
_CLAIM_FIELDS = len(Claim._fields)


@dataclass(slots=True)
class _Found:
    """What one look at the queues brought."""

    claims: list[Claim]
    lanes: Counter[str]  #: how many of the claims are of which lane
    now: int
    alive: bool
    waiting: str | None
    next_due: int | None
    knows_due: bool  #: False: next_due was not asked for
    looked_deep: bool = True  #: False: more priorities than the steps went
    held: bool = False  #: a due job was passed over: some transaction held it at that moment
    sweep_at: int | None = None  #: earliest moment a sweep has something to do, if that was asked for


class Consume(Leases):
    """``exchange`` and ``peek`` of the contract."""

    def peek(self, queues: Sequence[str], lanes: Sequence[str]) -> Mapping[str, int]:
        parameters = {"queues": Texts(queues), "lanes": Texts(lanes), "shift": self.clock_shift}
        statement = self._statements[claims_sql.PEEK]
        found = self._connections.on_worker(
            "look for claimable jobs", lambda session: session.rows(statement, parameters)
        )
        return dict(found)

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        try:
            return self._exchange(worker_id, outcomes, want)
        except StorageUnavailable:
            raise
        except StorageError as error:
            if not outcomes:
                raise
            log.warning("a batch of %d outcomes was refused, recording them apart: %s", len(outcomes), error)
        recorded = self._record_apart(worker_id, outcomes)
        return self._exchange(worker_id, (), want)._replace(recorded=frozenset(recorded))

    def _exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        return self._connections.on_worker(
            "record outcomes and claim jobs", lambda session: self._turn(session, worker_id, outcomes, want)
        )

    def _turn(
        self, session: Session, worker_id: str, outcomes: Sequence[Outcome], want: Want | None
    ) -> Exchange:
        """One round trip while there is enough to do; a second one to say that there is not."""
        seeking = None if want is None or want.limit < 1 else _Seeking(worker_id, want, self.clock_shift)
        with session.turn() as turn:
            settling = settle.send(turn, self._statements, outcomes, self.clock_shift)
            # A worker that waits wants to know when to look again; a busy one will look anyway.
            due = seeking is not None and seeking.waits == self._waits
            # A claim alone may be lost with the server: it is claimed again. What ended may not.
            look = self._look(turn, worker_id, seeking, due, lazily=not outcomes)
        loose = Loose()
        recorded = settling.answers(loose)
        found = look.found()
        self._waits = found.waiting
        self.claimed += len(found.claims)
        if len(recorded) < len(outcomes):
            # Tried again by itself: what this turn claimed must not be claimed a second time.
            again(lambda session: self._record_rest(session, outcomes, recorded, loose), session)
        self._afterwards(session, worker_id, seeking, loose, found)
        claims, next_due = found.claims, found.next_due
        return Exchange(frozenset(recorded), claims, next_due, found.now, found.alive, found.sweep_at)

    def _record_rest(
        self, session: Session, outcomes: Sequence[Outcome], recorded: set[str], loose: Loose
    ) -> None:
        """Outcomes that matched no row: fenced, recorded earlier, asked to cancel, or passed over because
        the row changed."""
        rest = [outcome for outcome in outcomes if outcome.job_id not in recorded]
        with session.turn() as turn:
            settling = settle.send_again(turn, self._statements, rest, self.clock_shift)
            earlier = settle.ask_earlier(turn, self._statements, rest)
        recorded |= settling.answers(loose)
        recorded.update(loose.ended(row for row in earlier.fetchall() if row[0] not in recorded))

    def _look(
        self, turn: Turn, worker_id: str, seeking: _Seeking | None, due: bool, lazily: bool
    ) -> _Looking:
        claims = dues = None
        if seeking is not None:
            statement = claims_sql.CLAIM_CAPPED if seeking.is_capped else claims_sql.CLAIM
            claims = turn.run(self._statements[statement], seeking.parameters)
            if due:
                dues = turn.run(self._statements[claims_sql.DUE], seeking.parameters)
        return _Looking(claims, dues, self._glance(turn, worker_id, lazily))

    def _glance(self, turn: Turn, worker_id: str, lazily: bool) -> Cursor:
        parameters = {"worker": worker_id, "shift": self.clock_shift, "lazily": lazily}
        return turn.run(self._statements[claims_sql.LOOK], parameters)

    def _afterwards(
        self, session: Session, worker_id: str, seeking: _Seeking | None, loose: Loose, found: _Found
    ) -> None:
        """After the commit: tell who waits, and before this worker may wait, mark it and look once more.

        What was recorded and claimed stands; a failure here only means that somebody looks a little later.
        """
        if loose.any:
            self._tie_up(session, loose, found)
        short = seeking is not None and found.alive and len(found.claims) < seeking.limit
        waits = seeking.waits if short and seeking is not None else None
        mark = found.alive and seeking is not None and waits != found.waiting
        # Often it is result() that holds a new job, for as long as it takes to ask to be told of its end.
        looks = short and (
            mark or not found.knows_due or not found.looked_deep or found.held or bool(loose.opened)
        )
        if loose.opened and not looks:
            found.next_due = found.now
        if not (loose.awaited or loose.queues or mark or looks):
            return
        try:
            with session.turn() as turn:
                if loose.awaited:
                    turn.run(self._statements[sql.TELL], self._news(loose.awaited))
                    turn.cut()
                if loose.queues:
                    turn.run(self._statements[sql.RING], self._bell(sorted(loose.queues), worker_id))
                    turn.cut()
                if mark:
                    turn.commit_lazily()
                    turn.run(self._statements[claims_sql.MARK], {"worker": worker_id, "waiting": waits})
                    turn.cut()
                again = self._look_again(turn, worker_id, seeking, found) if looks and seeking else None
            if mark:
                self._waits = waits
            if again is not None:
                self._add(found, again.found())
        except psycopg.Error as error:
            log.warning(
                "after an exchange: %s", self._connections.translate(error, "tell others or look again")
            )
            found.next_due = found.now + LOOK_AGAIN

    def _look_again(self, turn: Turn, worker_id: str, seeking: _Seeking, found: _Found) -> _Looking:
        rest = seeking.rest(len(found.claims), found.lanes)
        statement = claims_sql.CLAIM_IN_ORDER
        if found.looked_deep:
            statement = claims_sql.CLAIM_CAPPED if seeking.is_capped else claims_sql.CLAIM
        claims = turn.run(self._statements[statement], rest)
        dues = turn.run(self._statements[claims_sql.DUE], rest)
        look = self._glance(turn, worker_id, lazily=True)
        return _Looking(claims, dues, look, in_order=statement is claims_sql.CLAIM_IN_ORDER)

    def _tie_up(self, session: Session, loose: Loose, found: _Found) -> None:
        try:
            self._aftermath().tie_up(session, loose)
        except psycopg.Error as error:
            log.warning("after an exchange: %s", self._connections.translate(error, "let others go on"))
            found.sweep_at = found.now  # what is left undone is for a sweep to find

    def _add(self, found: _Found, again: _Found) -> None:
        found.claims += again.claims
        found.now, found.alive, found.next_due = again.now, again.alive, again.next_due
        if again.sweep_at is not None:
            found.sweep_at = min(again.sweep_at, found.sweep_at or again.sweep_at)
        self.claimed += len(again.claims)

    def _record_apart(self, worker_id: str, outcomes: Sequence[Outcome]) -> set[str]:
        """Record what can be: halve until the refused outcome is alone, and reject that job."""
        middle = len(outcomes) // 2
        if not middle:
            return self._record_or_reject(worker_id, outcomes[0])
        recorded: set[str] = set()
        for half in (outcomes[:middle], outcomes[middle:]):
            try:
                recorded |= self._exchange(worker_id, half, None).recorded
            except StorageUnavailable:
                raise
            except StorageError:
                recorded |= self._record_apart(worker_id, half)
        return recorded

    def _record_or_reject(self, worker_id: str, outcome: Outcome) -> set[str]:
        try:
            return set(self._exchange(worker_id, (outcome,), None).recorded)
        except StorageUnavailable:
            raise
        except StorageError as error:
            log.error("the outcome of job %s cannot be stored: %s", outcome.job_id, error)
            return set(self._exchange(worker_id, (settle.rejected(outcome, error),), None).recorded)


class _Seeking:
    """One want, as the parameters of CLAIM and DUE."""

    __slots__ = ("_caps", "is_capped", "limit", "parameters", "waits")

    def __init__(self, worker_id: str, want: Want, shift: int) -> None:
        self.limit = want.limit
        self.waits = json.dumps(sorted(want.queues))
        self.parameters: dict[str, Any] = {
            "worker": worker_id,
            "queues": Texts(want.queues),
            "tasks": Texts(want.tasks),
            "limit": want.limit,
            "token": want.token,
            "shift": shift,
            **_ration(want.caps),
        }
        self._caps = want.caps
        self.is_capped = bool(want.caps)

    def rest(self, taken: int, lanes: Counter[str]) -> dict[str, Any]:
        """The parameters of another look, for what so many claims of these lanes left."""
        rest = {**self.parameters, "limit": self.limit - taken}
        if self.is_capped:
            rest |= _ration({lane: max(0, cap - lanes[lane]) for lane, cap in self._caps.items()})
        return rest


def _ration(caps: Mapping[str, int]) -> dict[str, Any]:
    return {"capped": Texts(caps.keys()), "caps": Bigints(caps.values())}


class _Looking:
    """A look on its way; ``found`` reads the answers once the turn is over."""

    __slots__ = ("_claims", "_dues", "_in_order", "_look")

    def __init__(
        self, claims: Cursor | None, dues: Cursor | None, look: Cursor, in_order: bool = False
    ) -> None:
        self._in_order = in_order
        self._claims = claims
        self._dues = dues
        self._look = look

    def found(self) -> _Found:
        row = self._look.fetchone()
        assert row is not None  # it has no WHERE
        now, alive, waiting, _ = row
        nothing = (None, None, None)
        earliest, depth, sweep_at = (self._dues.fetchone() or nothing) if self._dues is not None else nothing
        held = earliest is not None and earliest <= now
        if earliest is not None:
            # Due and yet not claimed: held by a transaction that may be over in a moment.
            earliest = max(earliest, now + HELD_AGAIN)
        deep = depth is None or depth < claims_sql.MAX_STEPS
        if not deep:
            again = now + (LOOK_AGAIN if self._in_order else HELD_AGAIN)
            earliest = min(earliest or again, again)
        knows_due = self._dues is not None
        rows = [] if self._claims is None else sorted(self._claims.fetchall(), key=_place)
        make = Claim._make
        claims = [make(row[:_CLAIM_FIELDS]) for row in rows]
        lanes = Counter(row[-1] for row in rows)
        return _Found(claims, lanes, now, alive, waiting, earliest, knows_due, deep, held, sweep_at)


def _place(row: tuple[Any, ...]) -> int:
    place: int = row[_CLAIM_FIELDS]
    return place


def _value(cursor: Cursor) -> int:
    row = cursor.fetchone()
    assert row is not None
    value: int = row[0]
    return value
