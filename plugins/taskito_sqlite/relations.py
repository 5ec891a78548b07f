"""What the end of a job means for others: places go on, children are let go or cancelled.

All of it inside the caller's write transaction, so it is exact: nobody else writes meanwhile. Nobody has to
say which jobs ended: finished jobs that others wait for, or that hold a place, are in an index of their own,
which is empty but for them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from taskito_sqlite import acts


class Ripples:
    """What follows from everything that ended or changed in one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self._now = now
        self._keys: set[str] = set()  #: that may have a free place
        self.queues: set[str] = set()  #: that have jobs to claim which they had not
        self.opened: list[str] = []  #: those jobs
        self.cancelled: list[str] = []  #: dependants that were cancelled

    def look_at(self, key: str) -> None:
        """Something about this key changed."""
        self._keys.add(key)

    def step_back(self, job_id: str, key: str) -> None:
        """A job of the key runs again later: its place is free until then."""
        self._connection.execute(acts.STEP_BACK, (job_id,))
        self._keys.add(key)

    def settle(self) -> Ripples:
        """Meet the children of all that ended, then fill the places that are free. To be called last."""
        connection = self._connection
        if outstanding(connection):
            # Who is cancelled for a parent may have children too: they are in the next round.
            while parents := dict(connection.execute(acts.FOLLOWED).fetchall()):
                self._meet_children(parents)
            self._keys.update(row[0] for row in connection.execute(acts.VACATE).fetchall())
        for key in sorted(self._keys):
            self._let_in(key)
        self._keys.clear()
        return self

    def _meet_children(self, parents: dict[str, str]) -> None:
        """Release or cancel who waits for these finished parents, given with how they ended."""
        connection = self._connection
        ids = json.dumps(list(parents))
        children = connection.execute(acts.WAITING_CHILDREN, (ids,)).fetchall()
        connection.execute(acts.MET, (ids,))
        for child, key, failed in children:
            if failed is not None:
                self._cancel_child(child, failed, parents[failed])
            elif connection.execute(acts.UNFINISHED_PARENT, (child,)).fetchone() is not None:
                continue
            elif (lost := connection.execute(acts.LOST_PARENT, (child,)).fetchone()) is not None:
                self._cancel_child(child, lost[0], "deleted")
            else:
                [queue] = connection.execute(acts.OPEN_GATE, (child,)).fetchone()
                if key is None:
                    self.queues.add(queue)
                    self.opened.append(child)
                else:
                    self._keys.add(key)

    def _cancel_child(self, child: str, parent: str, ended: str) -> None:
        end(self._connection, [child], f"parent {parent} was {ended}", self._now)
        self.cancelled.append(child)

    def _let_in(self, key: str) -> None:
        connection = self._connection
        connection.execute(acts.COME_DUE, (key, self._now))
        taken = {row[0] for row in connection.execute(acts.TAKEN, (key,))}
        while (first := connection.execute(acts.FIRST_IN_LINE, (key,)).fetchone()) is not None:
            seq, queue, places = first
            if len(taken) >= places:
                return
            place = next(number for number in range(places) if number not in taken)
            [[job_id]] = connection.execute(acts.TAKE_PLACE, (seq, place)).fetchall()
            taken.add(place)
            self.queues.add(queue)
            self.opened.append(job_id)


def end(connection: sqlite3.Connection, ids: Iterable[str], reason: str, now: int) -> list[str]:
    """Cancel those of these jobs that are pending; their ids. What follows from it is up to Ripples."""
    return [
        job_id
        for job_id in dict.fromkeys(ids)
        if connection.execute(acts.CANCEL, (job_id, now, reason)).fetchall()
    ]


def cancel(
    connection: sqlite3.Connection, ids: Iterable[str], reason: str, now: int
) -> tuple[list[str], Ripples]:
    """Cancel those of these jobs that are pending; they, and what followed from it."""
    cancelled = end(connection, ids, reason, now)
    return cancelled, Ripples(connection, now).settle()


def outstanding(connection: sqlite3.Connection) -> bool:
    """Has a job ended that others wait for, or that holds a place, and nobody went on from there?"""
    return bool(connection.execute(acts.OUTSTANDING).fetchone()[0])
