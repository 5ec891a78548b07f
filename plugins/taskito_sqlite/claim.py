"""Choosing what a worker runs next, inside its write transaction.

The claim index is walked loosely: per queue the lanes that hold jobs, per lane its priorities, then one probe
for the due jobs of each. So a million future jobs of a higher priority cost one probe, not a million rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
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


def claim(
    connection: sqlite3.Connection, worker_id: str, want: Want, now: int
) -> tuple[list[Claim], int | None]:
    """Up to ``want.limit`` claims, best first; and when the next job falls due if none is due any more."""
    claims: list[Claim] = []
    next_due: int | None = None
    for queue in want.queues:
        for step, level in enumerate(_levels(connection, queue, want.tasks), 1):
            room = want.limit - len(claims)
            if step > MAX_STEPS:
                if room > 0:
                    claims += _take_in_order(connection, level, worker_id, want, now, room)
                next_due = min(next_due or now + LOOK_AGAIN, now + LOOK_AGAIN)
                break
            if room > 0:
                claims += _take(connection, level, worker_id, want.token, now, room)
            left = _earliest(connection, level)
            if left is not None and left <= now:
                return claims, None
            if left is not None and (next_due is None or left < next_due):
                next_due = left
    return claims, next_due


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


def _take(
    connection: sqlite3.Connection, level: Level, worker_id: str, token: int, now: int, room: int
) -> list[Claim]:
    if len(level.lanes) == 1:
        return _take_from(connection, level, level.lanes[0], worker_id, token, now, room)
    heads: list[tuple[int, str, str]] = []
    for lane in level.lanes:
        heads += connection.execute(sql.DUE_HEADS, (level.queue, lane, level.priority, now, room))
    best = sorted(heads)[:room]
    place = {job_id: index for index, (_, job_id, _) in enumerate(best)}
    claims: list[Claim] = []
    for lane in level.lanes:
        # What is taken from a lane is a prefix of that lane, so its length is all we need.
        if share := sum(1 for _, _, its_lane in best if its_lane == lane):
            claims += _take_from(connection, level, lane, worker_id, token, now, share)
    claims.sort(key=lambda claim: place[claim.id])
    return claims


def _take_from(
    connection: sqlite3.Connection, level: Level, lane: str, worker_id: str, token: int, now: int, room: int
) -> list[Claim]:
    where = (level.queue, lane, level.priority, now, room, token)
    claims = list(map(Claim._make, connection.execute(sql.DUE, where)))
    if claims:
        connection.execute(sql.CLAIM, (*where, worker_id))
    return claims


def _take_in_order(
    connection: sqlite3.Connection, level: Level, worker_id: str, want: Want, now: int, room: int
) -> list[Claim]:
    """The best due jobs of a queue from this level's priority down, over all wanted lanes."""
    rows: list[tuple[Any, ...]] = []
    for lane in _lanes(connection, level.queue, want.tasks):
        where = (level.queue, lane, level.priority, now, room, want.token)
        rows += connection.execute(sql.DUE_IN_ORDER, where)
    rows.sort(key=lambda row: (-row[-2], row[-1], row[0]))
    claims = [Claim._make(row[:-2]) for row in rows[:room]]
    ids = json.dumps([claim.id for claim in claims])
    connection.execute(sql.CLAIM_THESE, (ids, worker_id, want.token, now))
    return claims


def _earliest(connection: sqlite3.Connection, level: Level) -> int | None:
    """When the first of the jobs that are left in a level falls due."""
    found = (
        connection.execute(sql.NEXT_DUE, (level.queue, lane, level.priority)).fetchone()
        for lane in level.lanes
    )
    return min((int(row[0]) for row in found if row is not None), default=None)
