"""Choosing what a worker runs next, inside its write transaction.

The claim index is walked loosely: per queue the lanes that hold jobs, per lane its priorities, then one probe
for the due jobs of each. So a million future jobs of a higher priority cost one probe, not a million rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from taskito_core import Claim, Want
from taskito_sqlite import sql

#: After this many priorities of a queue the rest is read in order: see DUE_IN_ORDER.
MAX_STEPS = 200
#: Milliseconds after which to look again where not everything was looked at.
LOOK_AGAIN = 1000


class Level(NamedTuple):
    """The jobs of one queue and priority, and the wanted lanes they are in."""

    queue: str
    priority: int
    lanes: list[str]


class Taking:
    """One claim under way: who takes, when, and how much is left to take."""

    def __init__(self, connection: sqlite3.Connection, worker_id: str, want: Want, now: int) -> None:
        self.connection = connection
        self.worker_id = worker_id
        self.token = want.token
        self.now = now
        self.claims: list[Claim] = []
        self._limit = want.limit
        self._caps = dict(want.caps)  #: what is left of them

    @property
    def room(self) -> int:
        return self._limit - len(self.claims)

    def room_in(self, lane: str) -> int:
        """How much of a lane may be taken now."""
        return min(self.room, self._caps.get(lane, self.room))

    def may_take(self, lane: str) -> bool:
        """False if the lane's cap is used up, however much it holds."""
        return self._caps.get(lane, 1) > 0

    def took(self, lane: str, claims: list[Claim]) -> None:
        self.claims += claims
        if lane in self._caps:
            self._caps[lane] -= len(claims)


def claim(
    connection: sqlite3.Connection, worker_id: str, want: Want, now: int
) -> tuple[list[Claim], int | None]:
    """Up to ``want.limit`` claims, best first; and when the next job falls due if none is due any more."""
    taking = Taking(connection, worker_id, want, now)
    paused = {row[0] for row in connection.execute(sql.PAUSED)}
    next_due: int | None = None
    for queue in want.queues:
        if queue in paused:
            continue
        for step, level in enumerate(_levels(connection, queue, want.tasks), 1):
            if step > MAX_STEPS:
                if taking.room > 0:
                    _take_in_order(taking, level, want.tasks)
                next_due = min(next_due or now + LOOK_AGAIN, now + LOOK_AGAIN)
                break
            if taking.room > 0:
                _take(taking, level)
            open_lanes = [lane for lane in level.lanes if taking.may_take(lane)]
            left = _earliest(taking, level, open_lanes)
            if left is not None and left <= now:
                return taking.claims, None
            if len(open_lanes) < len(level.lanes):
                capped = _earliest(taking, level, [lane for lane in level.lanes if lane not in open_lanes])
                left = min((moment for moment in (left, capped) if moment is not None), default=None)
            if left is not None and (next_due is None or left < next_due):
                next_due = max(left, now)
    return taking.claims, next_due


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


def _take(taking: Taking, level: Level) -> None:
    if len(level.lanes) == 1:
        [lane] = level.lanes
        taking.took(lane, _take_from(taking, level, lane, taking.room_in(lane)))
        return
    heads: list[tuple[int, str, str]] = []
    for lane in level.lanes:
        where = (level.queue, lane, level.priority, taking.now, taking.room_in(lane))
        heads += taking.connection.execute(sql.DUE_HEADS, where)
    best = sorted(heads)[: taking.room]
    place = {job_id: index for index, (_, job_id, _) in enumerate(best)}
    before = len(taking.claims)
    for lane in level.lanes:
        # What is taken from a lane is a prefix of that lane, so its length is all we need.
        if share := sum(1 for _, _, its_lane in best if its_lane == lane):
            taking.took(lane, _take_from(taking, level, lane, share))
    taking.claims[before:] = sorted(taking.claims[before:], key=lambda claim: place[claim.id])


def _take_from(taking: Taking, level: Level, lane: str, room: int) -> list[Claim]:
    where = (level.queue, lane, level.priority, taking.now, room, taking.token)
    claims = list(map(Claim._make, taking.connection.execute(sql.DUE, where))) if room > 0 else []
    if claims:
        taking.connection.execute(sql.CLAIM, (*where, taking.worker_id))
    return claims


def _take_in_order(taking: Taking, level: Level, tasks: tuple[str, ...]) -> None:
    """The best due jobs of a queue from this level's priority down, over all wanted lanes."""
    rows: list[tuple[tuple[Any, ...], str]] = []
    for lane in _lanes(taking.connection, level.queue, tasks):
        if (room := taking.room_in(lane)) > 0:
            where = (level.queue, lane, level.priority, taking.now, room, taking.token)
            rows += [(row, lane) for row in taking.connection.execute(sql.DUE_IN_ORDER, where)]
    rows.sort(key=lambda found: (-found[0][-2], found[0][-1], found[0][0]))
    best = rows[: taking.room]
    ids = json.dumps([row[0] for row, _ in best])
    taking.connection.execute(sql.CLAIM_THESE, (ids, taking.worker_id, taking.token, taking.now))
    for row, lane in best:
        taking.took(lane, [Claim._make(row[:-2])])


def _earliest(taking: Taking, level: Level, lanes: list[str]) -> int | None:
    """When the first of the jobs that are left in these lanes of a level falls due."""
    found = (
        taking.connection.execute(sql.NEXT_DUE, (level.queue, lane, level.priority, taking.now)).fetchone()
        for lane in lanes
    )
    return min((int(row[0]) for row in found if row is not None), default=None)


def peek(
    connection: sqlite3.Connection, queues: Sequence[str], lanes: Sequence[str], now: int
) -> dict[str, int]:
    """When the earliest claimable job of each of these lanes falls due, over these queues."""
    wanted, earliest = set(lanes), dict[str, int]()
    paused = {row[0] for row in connection.execute(sql.PAUSED)}
    for queue in queues:
        if queue not in paused:
            for lane in _lanes(connection, queue, tuple(wanted)):
                if lane in wanted:
                    _note_earliest(connection, queue, lane, now, earliest)
    return earliest


def _note_earliest(
    connection: sqlite3.Connection, queue: str, lane: str, now: int, earliest: dict[str, int]
) -> None:
    found = connection.execute(sql.EARLIEST, (queue, lane, now)).fetchone()
    if found is not None and found[0] is not None:
        earliest[lane] = min(found[0], earliest.get(lane, found[0]))
