"""What the end of a job means for others: places go on, children are let go or cancelled.

All of it inside the caller's write transaction, so it is exact: nobody else writes meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from taskito_sqlite import acts


class Ripples:
    """What follows from the jobs that ended in one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self._now = now
        self._keys: set[str] = set()  #: that may have a free place
        self.queues: set[str] = set()  #: that have jobs to claim which they had not
        self.opened: list[str] = []  #: those jobs
        self.cancelled: list[str] = []  #: dependants that were cancelled

    def ended(self, ids: Iterable[str]) -> Ripples:
        """These jobs have just ended, however. Their places and children go on."""
        wave = list(ids)
        if wave and self._exists(acts.ANY_PLACE):
            self._leave(wave)
        while wave and self._exists(acts.ANY_EDGE):
            wave = self._meet_children(wave)
            if wave:
                self._leave(wave)
        return self

    def look_at(self, key: str) -> None:
        """Something about this key changed."""
        self._keys.add(key)

    def step_back(self, job_id: str, key: str) -> None:
        """A job of the key runs again later: its place is free until then."""
        self._connection.execute(acts.STEP_BACK, (job_id,))
        self._keys.add(key)

    def settle(self) -> Ripples:
        """Fill the places that became free. To be called last."""
        for key in sorted(self._keys):
            self._let_in(key)
        self._keys.clear()
        return self

    def _exists(self, statement: str) -> bool:
        return bool(self._connection.execute(statement).fetchone()[0])

    def _leave(self, ids: list[str]) -> None:
        rows = self._connection.execute(acts.LEAVE, (json.dumps(ids),)).fetchall()
        self._keys.update(row[0] for row in rows)

    def _meet_children(self, parents: list[str]) -> list[str]:
        """Release or cancel who waits for these parents; those that were cancelled."""
        connection = self._connection
        cancelled = []
        for child, key in connection.execute(acts.WAITING_CHILDREN, (json.dumps(parents),)).fetchall():
            if (failed := connection.execute(acts.FAILED_PARENT, (child,)).fetchone()) is not None:
                reason = f"parent {failed[0]} was {failed[1]}"
                connection.execute(acts.CANCEL, (child, self._now, reason)).fetchall()
                cancelled.append(child)
            elif connection.execute(acts.UNFINISHED_PARENT, (child,)).fetchone() is None:
                [queue] = connection.execute(acts.OPEN_GATE, (child,)).fetchone()
                if key is None:
                    self.queues.add(queue)
                    self.opened.append(child)
                else:
                    self._keys.add(key)
        self.cancelled += cancelled
        return cancelled

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


def cancel(
    connection: sqlite3.Connection, ids: Iterable[str], reason: str, now: int
) -> tuple[list[str], Ripples]:
    """Cancel those of these jobs that are pending; they, and what followed from it."""
    cancelled = [
        job_id
        for job_id in dict.fromkeys(ids)
        if connection.execute(acts.CANCEL, (job_id, now, reason)).fetchall()
    ]
    return cancelled, Ripples(connection, now).ended(cancelled).settle()
