"""The worker's side: settle and claim. All of it on the worker's own connection."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors

from taskito_core import Claim, Exchange, Outcome, StorageError, StorageUnavailable, Want
from taskito_postgres import claims, settle, sql
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.connection import again
from taskito_postgres.follow import Aftermath, chunks
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
    now: int
    alive: bool
    waiting: str | None
    next_due: int | None
    knows_due: bool  #: False: next_due was not asked for
    looked_deep: bool = True  #: False: more priorities than the steps went
    held: bool = False  #: a due job was passed over: some transaction held it at that moment
    sweep_at: int | None = None
    lanes: Counter[str] = field(default_factory=Counter)  #: claims of each lane, if lanes are capped


@dataclass(slots=True)
class _Recorded:
    """What became of the outcomes."""

    ids: set[str] = field(default_factory=set)
    past: Aftermath = field(default_factory=Aftermath)


class Consume(Leases):
    """``exchange`` and ``peek`` of the contract."""

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
        return self._exchange(worker_id, (), want)._replace(recorded=frozenset(recorded), opened=True)

    def _exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        return self._connections.on_worker(
            "record outcomes and claim jobs",
            lambda session: self._patiently(session, worker_id, outcomes, want),
        )

    def _patiently(
        self, session: Session, worker_id: str, outcomes: Sequence[Outcome], want: Want | None
    ) -> Exchange:
        try:
            return self._turn(session, worker_id, outcomes, want)
        except errors.LockNotAvailable:
            # complete_in, and then no commit: the others need not wait for it. If that transaction is undone
            # after all, the store still holds the job for running here, which the next heartbeat settles.
            ids = {"ids": Texts(outcome.job_id for outcome in outcomes)}
            held = {row[0] for row in session.rows(self._statements[sql.HELD_BY_OTHERS], ids)}
            if not held:
                raise
            log.warning(
                "left to the transactions that hold them: the outcomes of %s", ", ".join(sorted(held))
            )
        free = [outcome for outcome in outcomes if outcome.job_id not in held]
        return self._turn(session, worker_id, free, want)

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
        recorded = _Recorded()
        recorded.ids |= settling.answers(recorded.past)
        found = look.found()
        if recorded.past.goes_on:
            # What follows may open the best job there is, so the statement above has claimed nothing.
            self._follow_or_leave(session, recorded.past)
            with session.turn() as turn:
                look = self._look(turn, worker_id, seeking, due, lazily=True)
            found = look.found()
        self._waits = found.waiting
        self.claimed += len(found.claims)
        if len(recorded.ids) < len(outcomes):
            # Tried again by itself: what this turn claimed must not be claimed a second time.
            again(lambda session: self._record_rest(session, outcomes, recorded), session)
        self._afterwards(session, worker_id, seeking, recorded.past, found)
        return Exchange(
            frozenset(recorded.ids),
            found.claims,
            found.next_due,
            found.now,
            found.alive,
            found.sweep_at,
            bool(recorded.past.queues),
        )

    def _record_rest(self, session: Session, outcomes: Sequence[Outcome], recorded: _Recorded) -> None:
        """Outcomes that matched no row: fenced, recorded earlier, or passed over because the row changed."""
        rest = [outcome for outcome in outcomes if outcome.job_id not in recorded.ids]
        with session.turn() as turn:
            settle.hold(turn, self._statements, rest)
            settling = settle.send(turn, self._statements, rest, self.clock_shift)
            settling.finished.append(settle.ask_earlier(turn, self._statements, rest))
        recorded.ids |= settling.answers(recorded.past)

    def _look(
        self, turn: Turn, worker_id: str, seeking: _Seeking | None, due: bool, lazily: bool
    ) -> _Looking:
        taken = dues = None
        if seeking is not None:
            taken = turn.run(self._statements[seeking.statement], seeking.parameters)
            if due:
                dues = turn.run(self._statements[claims.DUE], seeking.parameters)
        capped = seeking is not None and seeking.capped
        return _Looking(taken, dues, self._glance(turn, worker_id, lazily), capped=capped)

    def _glance(self, turn: Turn, worker_id: str, lazily: bool) -> Cursor:
        parameters = {"worker": worker_id, "shift": self.clock_shift, "lazily": lazily}
        return turn.run(self._statements[claims.LOOK], parameters)

    def _afterwards(
        self, session: Session, worker_id: str, seeking: _Seeking | None, past: Aftermath, found: _Found
    ) -> None:
        """After the commit: do what follows, tell who waits, and before this worker may wait, mark it and
        look once more.

        What was recorded and claimed stands; a failure here only means that somebody looks a little later.
        """
        opened = past.goes_on and self._follow_or_leave(session, past)
        short = seeking is not None and found.alive and len(found.claims) < seeking.limit
        waits = seeking.waits if short and seeking is not None else None
        mark = found.alive and seeking is not None and waits != found.waiting
        # Often it is result() that holds a new job, for as long as it takes to ask to be told of its end.
        looks = short and (mark or not found.knows_due or not found.looked_deep or found.held or opened)
        if not (past.awaited or past.queues or mark or looks):
            return
        try:
            with session.turn() as turn:
                self._tell(turn, past)
                if past.queues:
                    turn.run(self._statements[sql.RING], self._bell(sorted(past.queues), worker_id))
                    turn.cut()
                if mark:
                    turn.commit_lazily()
                    turn.run(self._statements[claims.MARK], {"worker": worker_id, "waiting": waits})
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

    def _follow_or_leave(self, session: Session, past: Aftermath) -> bool:
        """What is left by a failure is done by the next sweep. True if anything was opened."""
        before = len(past.opened)
        try:
            self._follow(session, past)
        except psycopg.Error as error:
            log.warning("after an exchange: %s", self._connections.translate(error, "open what may run now"))
        past.done()
        return len(past.opened) > before

    def _look_again(self, turn: Turn, worker_id: str, seeking: _Seeking, found: _Found) -> _Looking:
        rest = seeking.rest(found)
        statement = seeking.statement if found.looked_deep else claims.CLAIM_IN_ORDER
        taken = turn.run(self._statements[statement], rest)
        dues = turn.run(self._statements[claims.DUE], rest)
        look = self._glance(turn, worker_id, lazily=True)
        in_order = statement is claims.CLAIM_IN_ORDER
        return _Looking(taken, dues, look, capped=seeking.capped, in_order=in_order)

    def _add(self, found: _Found, again: _Found) -> None:
        found.claims += again.claims
        found.now, found.alive, found.next_due = again.now, again.alive, again.next_due
        found.sweep_at = again.sweep_at
        self.claimed += len(again.claims)

    def _tell(self, turn: Turn, past: Aftermath) -> None:
        if past.awaited:
            parameters = {"channel": self._done_channel, "payloads": Texts(chunks(past.awaited))}
            turn.run(self._statements[sql.TELL], parameters)
            turn.cut()

    def peek(self, queues: Sequence[str], lanes: Sequence[str]) -> Mapping[str, int]:
        statement = self._statements[claims.PEEK]
        parameters = {"queues": Texts(queues), "lanes": Texts(lanes), "shift": self.clock_shift}
        rows = self._connections.on_worker(
            "look at lanes", lambda session: session.rows(statement, parameters)
        )
        return dict(rows)

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

    __slots__ = ("_caps", "limit", "parameters", "statement", "waits")

    def __init__(self, worker_id: str, want: Want, shift: int) -> None:
        self.limit = want.limit
        self.waits = json.dumps(sorted(want.queues))
        self.statement = claims.CLAIM_CAPPED if want.caps else claims.CLAIM
        self._caps = want.caps
        self.parameters: dict[str, Any] = {
            "worker": worker_id,
            "queues": Texts(want.queues),
            "tasks": Texts(want.tasks),
            "limit": want.limit,
            "token": want.token,
            "shift": shift,
            **_rations(want.caps),
        }

    @property
    def capped(self) -> bool:
        return bool(self._caps)

    def rest(self, found: _Found) -> dict[str, Any]:
        """The same for what is still wanted after a first look; lanes that are used up are left out."""
        rest = {**self.parameters, "limit": self.limit - len(found.claims)}
        if self._caps:
            left = {lane: cap - found.lanes[lane] for lane, cap in self._caps.items()}
            tasks = [task for task in self.parameters["tasks"].values if left.get(task, 1) > 0]
            rest |= {"tasks": Texts(tasks), **_rations(left)}
        return rest


def _rations(caps: Mapping[str, int]) -> dict[str, Any]:
    return {"capped": Texts(caps.keys()), "caps": Bigints(max(cap, 0) for cap in caps.values())}


class _Looking:
    """A look on its way; ``found`` reads the answers once the turn is over."""

    __slots__ = ("_capped", "_claims", "_dues", "_in_order", "_look")

    def __init__(
        self, taken: Cursor | None, dues: Cursor | None, look: Cursor, *, capped: bool, in_order: bool = False
    ) -> None:
        self._capped = capped
        self._in_order = in_order
        self._claims = taken
        self._dues = dues
        self._look = look

    def found(self) -> _Found:
        row = self._look.fetchone()
        assert row is not None  # it has no WHERE
        now, alive, waiting, _ = row
        dues = None if self._dues is None else self._dues.fetchone()
        earliest, depth, sweep_at = dues or (None, None, None)
        held = earliest is not None and earliest <= now
        if earliest is not None:
            # Due and yet not claimed: held by a transaction that may be over in a moment.
            earliest = max(earliest, now + HELD_AGAIN)
        deep = depth is None or depth < claims.MAX_STEPS
        if not deep:
            again = now + (LOOK_AGAIN if self._in_order else HELD_AGAIN)
            earliest = min(earliest or again, again)
        knows_due = self._dues is not None
        rows = [] if self._claims is None else sorted(self._claims.fetchall(), key=_place)
        return _Found(
            claims=[Claim._make(row[:_CLAIM_FIELDS]) for row in rows],
            now=now,
            alive=alive,
            waiting=waiting,
            next_due=earliest,
            knows_due=knows_due,
            looked_deep=deep,
            held=held,
            sweep_at=sweep_at,
            lanes=Counter(row[-1] for row in rows) if self._capped else Counter(),
        )


def _place(row: tuple[Any, ...]) -> int:
    place: int = row[_CLAIM_FIELDS]
    return place
