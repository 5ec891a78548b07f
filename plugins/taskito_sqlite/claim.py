"""Choosing what a worker runs next, inside its write transaction.

The index ``jobs_claim`` is scanned loosely: per queue the lanes that hold jobs, per lane its priorities, then
one probe for the due jobs of each. So a million future jobs of a higher priority cost one probe, and not a
million rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from taskito_core import Claim, Exchange, Outcome, QueueRoom, Want
from taskito_sqlite.gates import next_sweep
from taskito_sqlite.queues.limits import paused_and_limited
from taskito_sqlite.settle import settle
from taskito_sqlite.sql import admin
from taskito_sqlite.sql import claim as sql
from taskito_sqlite.wakeups import WakeupsMixin

#: Priorities of a queue that are probed one by one; the rest is read in order: see DUE_IN_ORDER.
MAX_STEPS = 200
#: Milliseconds after which a queue with more priorities than that is to be claimed from again.
RETRY_AFTER = 1000


class ClaimMixin(WakeupsMixin):
    """``exchange`` and ``peek`` of the contract."""

    _limited: Set[str] = frozenset()  #: queues that had limits at the last claim

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        """As ``Storage.exchange``.

        One write transaction sees all of it: jobs enqueued before it are found, and a producer after it sees
        that this worker waits. So the claim after the mark, which the contract asks for, is the first one
        here. A claim alone need not survive a power cut: nothing of what it started does either.
        """
        where = {"worker": worker_id}

        def work(connection: sqlite3.Connection) -> tuple[Exchange, set[str]]:
            now = self.now()
            settled = settle(connection, outcomes, now)
            addresses = set(settled.waiters)
            if outcomes and self._limited:
                # What ended may have left room in its queue, which no other worker knows of.
                addresses |= self._waiting_workers(connection, self._limited, but=worker_id)
            if settled.queues:
                addresses |= self._waiting_workers(connection, settled.queues, but=worker_id)
            alive, waiting = connection.execute(sql.WORKER_STATE, where).fetchone() or (False, False)
            opened = bool(settled.queues)
            if not alive or want is None or want.limit <= 0:
                # A worker that only settles may be waiting still: its mark stays as it is.
                return Exchange(settled.recorded, [], None, now, bool(alive), opened=opened), addresses
            claims, next_due, self._limited = claim(connection, worker_id, want, now)
            short = len(claims) < want.limit
            if waiting != short:
                connection.execute(sql.SET_WAITING, {**where, "waiting": short})
            sweep_at = next_sweep(connection) if short else None
            return Exchange(settled.recorded, claims, next_due, now, True, sweep_at, opened), addresses

        answer, addresses = self._write(work, durable=bool(outcomes))
        self._notify(addresses)
        if want is not None and not answer.claims:
            self._checkpoints.idle()
        return answer

    def peek(self, queues: Sequence[str], lanes: Sequence[str]) -> Mapping[str, int]:
        """As ``Storage.peek``."""
        return self._read(lambda connection: peek(connection, queues, lanes, self.now()))

    def lanes(self) -> list[tuple[str, str]]:
        """As ``Storage.lanes``."""
        return self._read(lambda connection: connection.execute(sql.LANES).fetchall())


class Level(NamedTuple):
    """The jobs of one queue and priority, and the wanted lanes they are in."""

    queue: str
    priority: int
    lanes: list[str]


class Claiming:
    """One call of ``claim``: what is claimed so far, and how much more may be."""

    def __init__(self, connection: sqlite3.Connection, worker_id: str, want: Want, now: int) -> None:
        self.connection = connection
        self.worker_id = worker_id
        self.token = want.token
        self.now = now
        self.claims: list[Claim] = []
        self._limit = want.limit
        self._queue_limit = want.limit  #: of claims until the present queue's limits are reached
        self._before = 0  #: claims before the present queue
        self._caps = dict(want.caps)  #: what is left of them

    def begin(self, limited: QueueRoom | None) -> None:
        """Go on to another queue, from which perhaps not so many may be claimed."""
        self._before = len(self.claims)
        self._queue_limit = self._limit if limited is None else min(self._limit, self._before + limited.count)

    @property
    def is_full(self) -> bool:
        """No more is wanted."""
        return len(self.claims) >= self._limit

    @property
    def taken(self) -> int:
        """Claims from the present queue."""
        return len(self.claims) - self._before

    @property
    def room(self) -> int:
        """How many more claims there may be from the present queue."""
        return self._queue_limit - len(self.claims)

    def room_in(self, lane: str) -> int:
        """The same from one lane."""
        return min(self.room, self._caps.get(lane, self.room))

    def is_open(self, lane: str) -> bool:
        """False if the lane's cap is used up, however many jobs it holds."""
        return self._caps.get(lane, 1) > 0

    def add(self, lane: str, claims: list[Claim]) -> None:
        """Count these claims from a lane."""
        self.claims += claims
        if lane in self._caps:
            self._caps[lane] -= len(claims)


def claim(
    connection: sqlite3.Connection, worker_id: str, want: Want, now: int
) -> tuple[list[Claim], int | None, set[str]]:
    """Up to ``want.limit`` claims, best first; when the next job falls due if none is due any more; and which
    queues have a limit."""
    claiming = Claiming(connection, worker_id, want, now)
    paused, limited = paused_and_limited(connection, want.queues, now)
    next_due: int | None = None
    for queue in want.queues:
        if queue in paused:
            continue
        left = _claim_queue(claiming, queue, want.tasks, limited.get(queue))
        if claiming.is_full and left is not None and left <= now:
            return claiming.claims, None, set(limited)
        if left is not None and (next_due is None or left < next_due):
            next_due = left
    return claiming.claims, next_due, set(limited)


def _claim_queue(
    claiming: Claiming, queue: str, tasks: tuple[str, ...], limited: QueueRoom | None
) -> int | None:
    """Claim from one queue; when the first of the jobs left in it may be claimed, if there are any."""
    claiming.begin(limited)
    now, more = claiming.now, False
    next_due: int | None = None
    for step, level in enumerate(_levels(claiming.connection, queue, tasks), 1):
        if step > MAX_STEPS:
            if claiming.room > 0:
                _claim_in_order(claiming, level, tasks)
            next_due = min(next_due or now + RETRY_AFTER, now + RETRY_AFTER)
            break
        if claiming.room > 0:
            _claim_level(claiming, level)
        open_lanes = [lane for lane in level.lanes if claiming.is_open(lane)]
        left = _earliest(claiming, level, open_lanes)
        if left is not None and left <= now:
            more = True  # than was wanted, or than the queue's limits allow
            break
        if len(open_lanes) < len(level.lanes):
            capped = _earliest(claiming, level, [lane for lane in level.lanes if lane not in open_lanes])
            left = min((moment for moment in (left, capped) if moment is not None), default=None)
        if left is not None and (next_due is None or left < next_due):
            next_due = max(left, now)
    if limited is not None:
        tokens = limited.take(claiming.taken)
        if tokens is not None:
            claiming.connection.execute(sql.PUT_TOKENS, {"queue": queue, **tokens._asdict()})
    if more:
        next_due = now if limited is None or claiming.is_full else limited.again_at
    return next_due


def _paused(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute(admin.PAUSED)}


def _levels(connection: sqlite3.Connection, queue: str, tasks: tuple[str, ...]) -> Iterator[Level]:
    """The queue's priorities from the highest down, each with its lanes."""
    heads: dict[str, int] = {}
    for lane in _lanes(connection, queue, tasks):
        for (priority,) in connection.execute(sql.FIRST_PRIORITY, (queue, lane)).fetchall():
            heads[lane] = priority
    while heads:
        best = max(heads.values())
        lanes = [lane for lane, priority in heads.items() if priority == best]
        yield Level(queue, best, lanes)
        for lane in lanes:
            found = connection.execute(sql.NEXT_PRIORITY, (queue, lane, best)).fetchone()
            if found is None:
                del heads[lane]
            else:
                heads[lane] = found[0]


def _lanes(connection: sqlite3.Connection, queue: str, tasks: tuple[str, ...]) -> Iterator[str]:
    yield ""
    lane = ""
    while found := connection.execute(sql.NEXT_LANE, (queue, lane)).fetchone():
        [lane] = found
        if lane in tasks:
            yield lane


def _claim_level(claiming: Claiming, level: Level) -> None:
    """Claim the best due jobs of one level, over its lanes."""
    if len(level.lanes) == 1:
        [lane] = level.lanes
        claiming.add(lane, _claim_lane(claiming, level, lane, claiming.room_in(lane)))
        return
    heads: list[tuple[int, str, str]] = []
    for lane in level.lanes:
        where = (level.queue, lane, level.priority, claiming.now, claiming.room_in(lane))
        heads += claiming.connection.execute(sql.DUE_HEADS, where)
    best = sorted(heads)[: claiming.room]
    rank = {job_id: index for index, (_, job_id, _) in enumerate(best)}
    before = len(claiming.claims)
    for lane in level.lanes:
        # What is claimed from a lane is a prefix of that lane, so its length is all we need.
        if share := sum(1 for _, _, its_lane in best if its_lane == lane):
            claiming.add(lane, _claim_lane(claiming, level, lane, share))
    claiming.claims[before:] = sorted(claiming.claims[before:], key=lambda claim: rank[claim.id])


def _claim_lane(claiming: Claiming, level: Level, lane: str, room: int) -> list[Claim]:
    where = (level.queue, lane, level.priority, claiming.now, room, claiming.token)
    claims = list(map(Claim._make, claiming.connection.execute(sql.DUE, where))) if room > 0 else []
    if claims:
        claiming.connection.execute(sql.CLAIM, (*where, claiming.worker_id))
    return claims


def _claim_in_order(claiming: Claiming, level: Level, tasks: tuple[str, ...]) -> None:
    """Claim the best due jobs of a queue from this level's priority down, over all wanted lanes."""
    rows: list[tuple[tuple[Any, ...], str]] = []
    for lane in _lanes(claiming.connection, level.queue, tasks):
        if (room := claiming.room_in(lane)) > 0:
            where = (level.queue, lane, level.priority, claiming.now, room, claiming.token)
            rows += [(row, lane) for row in claiming.connection.execute(sql.DUE_IN_ORDER, where)]
    rows.sort(key=lambda found: (-found[0][-2], found[0][-1], found[0][0]))
    best = rows[: claiming.room]
    values = {
        "ids": json.dumps([row[0] for row, _ in best]),
        "worker": claiming.worker_id,
        "token": claiming.token,
        "now": claiming.now,
    }
    claiming.connection.execute(sql.CLAIM_IN_ORDER, values)
    for row, lane in best:
        claiming.add(lane, [Claim._make(row[:-2])])


def _earliest(claiming: Claiming, level: Level, lanes: list[str]) -> int | None:
    """When the first of the jobs that are left in these lanes of a level falls due."""
    found = (
        claiming.connection.execute(
            sql.NEXT_DUE, (level.queue, lane, level.priority, claiming.now)
        ).fetchone()
        for lane in lanes
    )
    return min((int(row[0]) for row in found if row is not None), default=None)


def peek(
    connection: sqlite3.Connection, queues: Sequence[str], lanes: Sequence[str], now: int
) -> dict[str, int]:
    """When the earliest claimable job of each of these lanes falls due, over these queues."""
    wanted, earliest = set(lanes), dict[str, int]()
    paused = _paused(connection)
    for queue in queues:
        if queue in paused:
            continue
        for lane in _lanes(connection, queue, tuple(wanted)):
            if lane not in wanted:
                continue
            [moment] = connection.execute(sql.PEEK, (queue, lane, None, now)).fetchone()
            if moment is not None:
                earliest[lane] = min(moment, earliest.get(lane, moment))
    return earliest
