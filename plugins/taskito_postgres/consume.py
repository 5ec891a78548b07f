"""The worker's side: claim, settle, beat, rescue. All of it on the worker's own connection."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from taskito_core import (
    Beat,
    Claim,
    Exchange,
    Outcome,
    Peer,
    StorageError,
    StorageUnavailable,
    Wakeups,
    Want,
    WorkerInfo,
)
from taskito_postgres import settle, sql, upkeep
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.base import Base
from taskito_postgres.connection import again
from taskito_postgres.listen import Ear
from taskito_postgres.session import Cursor, Session, Turn

log = logging.getLogger("taskito.postgres")

#: Milliseconds after which to look again for a due job that another transaction held just now.
HELD_AGAIN = 5
#: The same when not all of the queue was looked at, or the second look failed.
LOOK_AGAIN = 1000
#: Bytes of ids in one notification; PostgreSQL refuses 8000.
MAX_NOTIFICATION = 7000

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


@dataclass(slots=True)
class _Recorded:
    """What became of the outcomes."""

    ids: set[str] = field(default_factory=set)
    awaited: list[str] = field(default_factory=list)
    queues: set[str] = field(default_factory=set)

    def add(self, ids: set[str], awaited: list[str], queues: set[str]) -> None:
        self.ids |= ids
        self.awaited += awaited
        self.queues |= queues


class Consume(Base):
    """``register`` to ``prune`` of the contract."""

    _waits: str | None = None  #: what the worker of this object was last marked as waiting for
    claimed: int = 0  #: claims so far; an Ear that polls slows down only while it stands still

    def register(self, worker: WorkerInfo) -> None:
        parameters = {
            "worker": worker.id,
            "host": worker.host,
            "pid": worker.pid,
            "app": worker.app,
            "queues": json.dumps(worker.queues),
            "tasks": json.dumps(worker.tasks),
            "procs": worker.procs,
            "version": worker.version,
            "shift": self.clock_shift,
        }
        statement = self._statements[upkeep.REGISTER]

        def work(session: Session) -> None:
            with session.turn() as turn:
                turn.run(statement, parameters)

        self._waits = None
        self._connections.on_worker(f"register worker {worker.id}", work)

    # ---- exchange ----

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
        recorded = _Recorded()
        recorded.add(*settling.answers())
        found = look.found()
        self._waits = found.waiting
        self.claimed += len(found.claims)
        if len(recorded.ids) < len(outcomes):
            # Tried again by itself: what this turn claimed must not be claimed a second time.
            again(lambda session: self._record_rest(session, outcomes, recorded), session)
        self._afterwards(session, worker_id, seeking, recorded, found)
        return Exchange(frozenset(recorded.ids), found.claims, found.next_due, found.now, found.alive)

    def _record_rest(self, session: Session, outcomes: Sequence[Outcome], recorded: _Recorded) -> None:
        """Outcomes that matched no row: fenced, recorded earlier, or passed over because the row changed."""
        rest = [outcome for outcome in outcomes if outcome.job_id not in recorded.ids]
        with session.turn() as turn:
            settling = settle.send(turn, self._statements, rest, self.clock_shift)
            earlier = settle.ask_earlier(turn, self._statements, rest)
        recorded.add(*settling.answers())
        recorded.ids |= {row[0] for row in earlier.fetchall()}

    def _look(
        self, turn: Turn, worker_id: str, seeking: _Seeking | None, due: bool, lazily: bool
    ) -> _Looking:
        claims = dues = None
        if seeking is not None:
            claims = turn.run(self._statements[sql.CLAIM], seeking.parameters)
            if due:
                dues = turn.run(self._statements[sql.DUE], seeking.parameters)
        return _Looking(claims, dues, self._glance(turn, worker_id, lazily))

    def _glance(self, turn: Turn, worker_id: str, lazily: bool) -> Cursor:
        parameters = {"worker": worker_id, "shift": self.clock_shift, "lazily": lazily}
        return turn.run(self._statements[sql.LOOK], parameters)

    def _afterwards(
        self, session: Session, worker_id: str, seeking: _Seeking | None, recorded: _Recorded, found: _Found
    ) -> None:
        """After the commit: tell who waits, and before this worker may wait, mark it and look once more.

        What was recorded and claimed stands; a failure here only means that somebody looks a little later.
        """
        short = seeking is not None and found.alive and len(found.claims) < seeking.limit
        waits = seeking.waits if short and seeking is not None else None
        mark = found.alive and seeking is not None and waits != found.waiting
        # Often it is result() that holds a new job, for as long as it takes to ask to be told of its end.
        looks = short and (mark or not found.knows_due or not found.looked_deep or found.held)
        if not (recorded.awaited or recorded.queues or mark or looks):
            return
        try:
            with session.turn() as turn:
                self._tell(turn, recorded)
                if recorded.queues:
                    turn.run(self._statements[sql.RING], self._bell(sorted(recorded.queues), worker_id))
                    turn.cut()
                if mark:
                    turn.commit_lazily()
                    turn.run(self._statements[sql.MARK], {"worker": worker_id, "waiting": waits})
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
        rest = seeking.rest(seeking.limit - len(found.claims))
        statement = sql.CLAIM if found.looked_deep else sql.CLAIM_IN_ORDER
        claims = turn.run(self._statements[statement], rest)
        dues = turn.run(self._statements[sql.DUE], rest)
        look = self._glance(turn, worker_id, lazily=True)
        return _Looking(claims, dues, look, in_order=statement is sql.CLAIM_IN_ORDER)

    def _add(self, found: _Found, again: _Found) -> None:
        found.claims += again.claims
        found.now, found.alive, found.next_due = again.now, again.alive, again.next_due
        self.claimed += len(again.claims)

    def _tell(self, turn: Turn, recorded: _Recorded) -> None:
        if recorded.awaited:
            parameters = {"channel": self._done_channel, "payloads": Texts(_chunks(recorded.awaited))}
            turn.run(self._statements[sql.TELL], parameters)
            turn.cut()

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

    # ---- leases ----

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        parameters = {"worker": worker_id, "shift": self.clock_shift}

        def work(session: Session) -> Beat:
            with session.turn() as turn:
                turn.commit_lazily()
                beat = turn.run(self._statements[upkeep.BEAT], parameters)
                peers = turn.run(self._statements[upkeep.PEERS], parameters)
                stored = turn.run(self._statements[upkeep.RUNNING], parameters)
                clock = turn.run(self._statements[sql.CLOCK], parameters)
            mine, named = {(row[0], row[1]) for row in stored.fetchall()}, set(running)
            return Beat(
                alive=beat.fetchone() is not None,
                peers=[Peer(*row) for row in peers.fetchall()],
                unknown_to_me=sorted(mine - named),
                unknown_to_store=frozenset(job_id for job_id, _ in named - mine),
                now=_value(clock),
            )

        return self._connections.on_worker(f"beat for worker {worker_id}", work)

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        dead = {"ids": Texts(suspects.keys()), "beats": Bigints(suspects.values())}

        def work(session: Session) -> list[tuple[str, str]]:
            with session.turn() as turn:
                turn.run(self._statements[upkeep.DECLARE_DEAD], dead)
                hit = turn.run(self._statements[upkeep.RESCUE], {"shift": self.clock_shift})
            return [(row[0], row[1]) for row in hit.fetchall()]

        return self._ring_for(self._connections.on_worker("rescue the jobs of dead workers", work))

    def unregister(self, worker_id: str) -> None:
        parameters = {"worker": worker_id}

        def work(session: Session) -> list[tuple[str, str]]:
            with session.turn() as turn:
                turn.run(self._statements[upkeep.RETIRE], parameters)
                hit = turn.run(self._statements[upkeep.RELEASE_ALL], parameters)
            return [(row[0], row[1]) for row in hit.fetchall()]

        self._waits = None
        self._ring_for(self._connections.on_worker(f"unregister worker {worker_id}", work))

    def _ring_for(self, returned: list[tuple[str, str]]) -> list[str]:
        if returned:
            self._ringer.later({queue for _, queue in returned})
        return [job_id for job_id, _ in returned]

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        return Ear(self._connections, self._work_channel, queues, lambda: self.claimed)

    def prune(self, limit: int) -> int:
        parameters = {"limit": limit, "shift": self.clock_shift}

        def work(session: Session) -> int:
            with session.turn() as turn:
                turn.commit_lazily()
                pruned = turn.run(self._statements[upkeep.PRUNE], parameters)
                turn.run(self._statements[upkeep.FORGET_WORKERS], parameters)
            return len(pruned.fetchall())

        return self._connections.on_worker("prune finished jobs", work)


class _Seeking:
    """One want, as the parameters of CLAIM and DUE."""

    __slots__ = ("limit", "parameters", "waits")

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
        }

    def rest(self, limit: int) -> dict[str, Any]:
        return {**self.parameters, "limit": limit}


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
        earliest, depth = (self._dues.fetchone() or (None, None)) if self._dues is not None else (None, None)
        held = earliest is not None and earliest <= now
        if earliest is not None:
            # Due and yet not claimed: held by a transaction that may be over in a moment.
            earliest = max(earliest, now + HELD_AGAIN)
        deep = depth is None or depth < sql.MAX_STEPS
        if not deep:
            again = now + (LOOK_AGAIN if self._in_order else HELD_AGAIN)
            earliest = min(earliest or again, again)
        knows_due = self._dues is not None
        return _Found(self._read_claims(), now, alive, waiting, earliest, knows_due, deep, held)

    def _read_claims(self) -> list[Claim]:
        if self._claims is None:
            return []
        rows = self._claims.fetchall()
        rows.sort(key=_place)
        make = Claim._make
        return [make(row[:_CLAIM_FIELDS]) for row in rows]


def _place(row: tuple[Any, ...]) -> int:
    place: int = row[_CLAIM_FIELDS]
    return place


def _value(cursor: Cursor) -> int:
    row = cursor.fetchone()
    assert row is not None
    value: int = row[0]
    return value


def _chunks(ids: Sequence[str]) -> list[str]:
    """JSON lists of ids, each short enough for one notification."""
    chunks, chunk, size = [], list[str](), 0
    for job_id in ids:
        weight = len(json.dumps(job_id)) + 2
        if chunk and size + weight > MAX_NOTIFICATION:
            chunks.append(json.dumps(chunk))
            chunk, size = [], 0
        chunk.append(job_id)
        size += weight
    return [*chunks, json.dumps(chunk)] if chunk else chunks
