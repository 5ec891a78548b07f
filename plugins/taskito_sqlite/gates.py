"""What the end of a job means for others: slots are given away, children are released or cancelled.

All of it happens inside the caller's write transaction, so no other process writes meanwhile. It need not be
told which jobs ended: finished jobs that others wait for, or that hold a slot, are in indexes of their own,
which hold nothing else.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from taskito_core import Swept, messages
from taskito_sqlite.sql import admin, clock
from taskito_sqlite.sql import gates as sql
from taskito_sqlite.wakeups import WakeupsMixin

#: Milliseconds that a clock may go back without having been set.
SWING = 2000
#: Milliseconds between two portions of what is moved after a clock was set back.
PORTION_EVERY = 50


class Cascade:
    """What follows from all that ended or changed in one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self._now = now
        self._keys: set[str] = set()  #: that may have a free slot
        self.queues: set[str] = set()  #: that have jobs to claim which they had not
        self.opened: list[str] = []  #: those jobs
        self.cancelled: list[str] = []  #: children that were cancelled

    def check_key(self, key: str) -> None:
        """Give away the free slots of this key when the cascade runs."""
        self._keys.add(key)

    def leave_slot(self, job_id: str, key: str) -> None:
        """A job of the key runs again later: its slot is free until then."""
        self._connection.execute(sql.LEAVE_SLOT, {"id": job_id})
        self._keys.add(key)

    def run(self) -> Cascade:
        """Deal with the children of all jobs that ended, then give away the free slots. To be called last."""
        connection = self._connection
        if is_outstanding(connection):
            # A child that is cancelled for its parent may have children too: they come in the next round.
            while parents := dict(connection.execute(sql.FOLLOWED).fetchall()):
                self._go_on_from(parents)
            self._keys.update(row[0] for row in connection.execute(sql.VACATE_SLOTS).fetchall())
        for key in sorted(self._keys):
            self._give_slots(key)
        self._keys.clear()
        return self

    def _go_on_from(self, parents: dict[str, str]) -> None:
        """Release or cancel the children of these finished parents, given with how they ended."""
        connection = self._connection
        ids = {"ids": json.dumps(list(parents))}
        children = connection.execute(sql.WAITING_CHILDREN, ids).fetchall()
        connection.execute(sql.CLEAR_FOLLOWED, ids)
        for child, key, failed in children:
            named = {"id": child}
            if failed is not None:
                self._cancel_child(child, failed, parents[failed])
            elif connection.execute(sql.UNFINISHED_PARENT, named).fetchone() is not None:
                continue
            elif (lost := connection.execute(sql.LOST_PARENT, named).fetchone()) is not None:
                self._cancel_child(child, lost[0], messages.DELETED)
            else:
                [queue] = connection.execute(sql.OPEN_PARENTS_GATE, named).fetchone()
                if key is None:
                    self.queues.add(queue)
                    self.opened.append(child)
                else:
                    self._keys.add(key)

    def _cancel_child(self, child: str, parent: str, status: str) -> None:
        reason = messages.PARENT_FAILED.format(parent=parent, status=status)
        cancel_pending(self._connection, [child], reason, self._now)
        self.cancelled.append(child)

    def _give_slots(self, key: str) -> None:
        connection = self._connection
        named = {"key": key, "now": self._now}
        connection.execute(sql.PROMOTE, named)
        taken = {row[0] for row in connection.execute(sql.TAKEN_SLOTS, named)}
        while (first := connection.execute(sql.FIRST_AT_KEY, named).fetchone()) is not None:
            seq, queue, concurrency = first
            if len(taken) >= concurrency:
                return
            slot = next(number for number in range(concurrency) if number not in taken)
            [[job_id]] = connection.execute(sql.OPEN_KEY_GATE, {"seq": seq, "slot": slot}).fetchall()
            taken.add(slot)
            self.queues.add(queue)
            self.opened.append(job_id)


class GatesMixin(WakeupsMixin):
    """``sweep`` of the contract."""

    def sweep(self, limit: int) -> Swept:
        """As ``Storage.sweep``. Reads first: most sweeps find nothing and need not write."""
        now = self.now()
        due = {"now": now, "limit": limit}
        if not self._read(lambda connection: _is_due(connection, due)):
            return self._read(lambda connection: Swept([], [], [], next_sweep(connection), now))

        def work(connection: sqlite3.Connection) -> tuple[Swept, set[str]]:
            # The clock anew: while this waited for its turn others may have stored what is younger than now.
            moved = move_back(connection, self.now(), limit)
            expired = connection.execute(sql.EXPIRED, due).fetchall()
            for job_id, expires_at in expired:
                cancel_pending(connection, [job_id], messages.expired(expires_at), now)
            cascade = Cascade(connection, now)
            for (key,) in connection.execute(sql.KEYS_DUE, due).fetchall():
                cascade.check_key(key)
            cascade.run()
            ids = [job_id for job_id, _ in expired]
            next_at = now + PORTION_EVERY if moved.unfinished else next_sweep(connection)
            swept = Swept(ids, cascade.cancelled, cascade.opened, next_at, now, moved.by)
            return swept, self._to_notify(connection, cascade.queues | moved.queues)

        return self._write_and_notify(work)


def _is_due(connection: sqlite3.Connection, due: dict[str, int]) -> bool:
    """Whether a sweep at this moment has something to do."""
    one = {**due, "limit": 1}
    found = (connection.execute(statement, one).fetchone() for statement in (sql.EXPIRED, sql.KEYS_DUE))
    return any(row is not None for row in found) or is_outstanding(connection) or _is_behind(connection, due)


def _is_behind(connection: sqlite3.Connection, due: dict[str, int]) -> bool:
    """Whether the clock was set back, and not all that was written ahead has been moved."""
    ahead, unfinished = connection.execute(clock.CLOCK_AHEAD).fetchone()
    return bool(unfinished) or ahead > due["now"] + SWING


class Moved(NamedTuple):
    """What was done about a clock that was set back."""

    by: int  #: by how many milliseconds, told once
    queues: set[str]  #: that have jobs to claim which they had not
    unfinished: bool  #: more is to be moved


def move_back(connection: sqlite3.Connection, now: int, limit: int) -> Moved:
    """If the clock was set back, move what was written ahead: of each kind at most ``limit`` rows."""
    ahead, unfinished = connection.execute(clock.CLOCK_AHEAD).fetchone()
    if not unfinished and ahead <= now + SWING:
        return Moved(0, set(), False)
    values = {"now": now, "by": max(ahead - now, 0), "ahead": ahead, "limit": limit}
    rows = connection.execute(clock.SET_BACK_LIVE, values).fetchall()
    counts = [connection.execute(statement, values).rowcount for statement in clock.MANY]
    more = max(len(rows), *counts) >= limit
    if not more:
        for statement in clock.FEW:
            connection.execute(statement, values)
    connection.execute(clock.CLOCK_SET_BACK, {**values, "unfinished": more})
    return Moved(0 if unfinished else ahead - now, {queue for (queue,) in rows}, more)


def next_sweep(connection: sqlite3.Connection) -> int | None:
    """When a sweep has something to do next, as far as is known."""
    [moment] = connection.execute(sql.NEXT_SWEEP).fetchone()
    return None if moment is None else int(moment)


def is_outstanding(connection: sqlite3.Connection) -> bool:
    """Whether a job has ended that others wait for, or that holds a slot, and no cascade has run since."""
    return bool(connection.execute(sql.OUTSTANDING).fetchone()[0])


def cancel_pending(connection: sqlite3.Connection, ids: Iterable[str], reason: str, now: int) -> list[str]:
    """Cancel those of these jobs that are pending; their ids. The caller runs a Cascade afterwards."""
    values = {"now": now, "error": reason}
    return [
        job_id
        for job_id in dict.fromkeys(ids)
        if connection.execute(admin.CANCEL, {**values, "id": job_id}).fetchall()
    ]


def cancel_and_cascade(
    connection: sqlite3.Connection, ids: Iterable[str], reason: str, now: int
) -> tuple[list[str], Cascade]:
    """Cancel those of these jobs that are pending; their ids, and what followed from it."""
    cancelled = cancel_pending(connection, ids, reason, now)
    return cancelled, Cascade(connection, now).run()
