"""Gates, and the cascade that opens them when jobs end or leave their slot.

A cascade runs after the end was committed: it cancels or releases dependants, gives free slots to the next
jobs of their keys, and notifies those that wait. Each step is a transaction of its own and may be done twice.
A process that dies in between leaves the rest to ``sweep``.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg

from taskito_core import StorageConfig, Swept
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.connection import ATTEMPTS, again
from taskito_postgres.session import Session
from taskito_postgres.sql import clock
from taskito_postgres.sql import gates as sql
from taskito_postgres.wakeups import WakeupsMixin

log = logging.getLogger("taskito.postgres")

#: Runs one statement of ``sql`` in the transaction at hand; its rows.
Run = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]

#: Milliseconds that a clock may go back without having been set.
SWING = 2000
#: Milliseconds between two portions of what is moved after a clock was set back; and if others hold the rest.
PORTION_EVERY, HELD_AGAIN = 50, 1000
#: Keys share this many locks: one for each would not fit the server's table of locks.
LOCKS = 256


@dataclass(slots=True)
class Cascade:
    """What is to follow the end of some jobs, and what came of it."""

    parents: list[str] = field(default_factory=list)  #: jobs that ended and have dependants
    children: list[str] = field(default_factory=list)  #: jobs whose parents may have ended unseen
    keys: set[str] = field(default_factory=set)  #: concurrency keys that may have a free slot
    awaited: list[str] = field(default_factory=list)  #: jobs that ended, and whose end is waited for
    cancelled: list[str] = field(default_factory=list)  #: dependants that were cancelled
    opened: list[str] = field(default_factory=list)  #: jobs that lost their gate
    queues: set[str] = field(default_factory=set)  #: where there are claimable jobs that were not

    def add_ended(self, rows: Iterable[tuple[Any, ...]]) -> list[str]:
        """Take in rows (id, awaited, key, has dependants); their ids."""
        ids = []
        for job_id, is_awaited, key, has_dependants in rows:
            ids.append(job_id)
            if is_awaited:
                self.awaited.append(job_id)
            if key is not None:
                self.keys.add(key)
            if has_dependants:
                self.parents.append(job_id)
        return ids

    def add_opened(self, rows: Iterable[tuple[Any, ...]]) -> bool:
        """Take in rows (id, queue) of jobs that can be claimed. False if some rows were passed over."""
        complete = True
        for job_id, queue in rows:
            if job_id is None:
                complete = False
                continue
            self.opened.append(job_id)
            self.queues.add(queue)
        return complete

    def clear(self) -> None:
        """Nothing is left to follow."""
        self.parents, self.children, self.keys = [], [], set()

    @property
    def pending(self) -> bool:
        """True if there is anything left to follow."""
        return bool(self.parents or self.children or self.keys)


class Moved(NamedTuple):
    """What was done about a clock that was set back."""

    by: int  #: by how many milliseconds, told once
    queues: set[str]  #: that have jobs to claim which they had not
    unfinished: bool  #: more is to be moved


class GatesMixin(WakeupsMixin):
    """``sweep`` of the contract, and the cascades of all others."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._last_child = ""  #: how far the sweeps have come through the children that wait
        self._last_key = ""  #: the same for the keys

    def sweep(self, limit: int) -> Swept:
        limit = max(limit, 1)
        return self._connections.on_worker("sweep", lambda session: self._sweep(session, limit))

    def _sweep(self, session: Session, limit: int) -> Swept:
        run = self._alone(session)
        shifted = {"limit": limit, "shift": self.clock_shift}
        moved = again(lambda session: self._move_back(session, limit), session)
        cascade = Cascade(queues=moved.queues)
        expired = cascade.add_ended(run(sql.EXPIRE, shifted))
        cascade.keys |= {row[0] for row in run(sql.KEYS_DUE, shifted)}
        unreleased = run(sql.UNRELEASED_CHILDREN, {"limit": limit, "after": self._last_child})
        cascade.children = [row[0] for row in unreleased]
        after_last = [job_id for job_id, is_after in unreleased if is_after]
        self._last_child = max(after_last) if len(after_last) >= limit else ""
        keys = run(sql.KEYS_WITH_FREE_SLOT, {"limit": limit, "after": self._last_key})
        cascade.keys |= {key for key, has_free_slot in keys if has_free_slot}
        self._last_key = keys[-1][0] if len(keys) >= limit else ""
        self._run_cascade(session, cascade)
        self._notify(session, cascade.awaited, cascade.queues)
        [(next_at, now)] = run(sql.NEXT_SWEEP, {"shift": self.clock_shift})
        if moved.unfinished:
            next_at = now + (PORTION_EVERY if moved.queues else HELD_AGAIN)
        return Swept(expired, cascade.cancelled, cascade.opened, next_at, now, moved.by)

    def _move_back(self, session: Session, limit: int) -> Moved:
        """If the clock was set back, move what was written ahead: of each kind at most ``limit`` rows."""
        shifted = {"shift": self.clock_shift}
        [(ahead, unfinished, now)] = session.rows(self._statements[clock.CLOCK_AHEAD], shifted)
        if not unfinished and ahead <= now + SWING:
            return Moved(0, set(), False)
        run = session.runner(self._statements)
        with session.transaction():
            if not run(clock.LOCK_CLOCK, {}):
                return Moved(0, set(), False)
            # Read anew, now that no other worker is at it.
            [(ahead, unfinished, now)] = run(clock.CLOCK_AHEAD, shifted)
            if not unfinished and ahead <= now + SWING:
                return Moved(0, set(), False)
            values = {"now": now, "by": max(ahead - now, 0), "ahead": ahead, "limit": limit}
            rows = run(clock.SET_BACK_LIVE, values)
            counts = [len(run(statement, values)) for statement in clock.MANY]
            more = max(len(rows), *counts) >= limit or run(clock.LIVE_AHEAD, values)[0][0]
            for statement in () if more else clock.FEW:
                run(statement, values)
            run(clock.CLOCK_SET_BACK, {**values, "unfinished": more})
        return Moved(0 if unfinished else ahead - now, {queue for (queue,) in rows}, more)

    def _run_cascade(self, session: Session, cascade: Cascade) -> None:
        """Do all that follows, and add it to ``cascade``; notify of nothing yet. Raises psycopg's errors."""
        release_dependants(self._alone(session), cascade, self.clock_shift)
        if cascade.keys:
            again(lambda session: self._fill_slots(session, cascade), session)

    def _fill_slots(self, session: Session, cascade: Cascade) -> None:
        for _ in range(ATTEMPTS):
            with session.round_trip() as trip:
                for statement, parameters in fill_slots(self.config.schema, cascade.keys, self.clock_shift):
                    cursor = trip.run(self._statements[statement], parameters)
            if cascade.add_opened(cursor.fetchall()):
                break
        cascade.keys.clear()

    def _cascade_after_enqueue(self, session: Session, cascade: Cascade, queues: set[str]) -> None:
        """The batch is committed: after a failure here the next sweep does what was left."""
        try:
            if cascade.pending:
                self._run_cascade(session, cascade)
            self._notify(session, cascade.awaited, cascade.queues)
        except psycopg.Error as error:
            log.warning(
                "after enqueueing: %s", self._connections.translate(error, "open what can be claimed")
            )
        self._notifier.notify_soon(queues | cascade.queues)

    def _alone(self, session: Session) -> Run:
        """What runs each statement in a transaction of its own."""

        def run(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
            text = self._statements[statement]
            return again(lambda session: session.rows(text, parameters), session)

        return run


def release_dependants(run: Run, cascade: Cascade, shift: int) -> None:
    """Cancel or release the dependants of what ended; released ones with a key are left to ``fill_slots``."""
    if not (cascade.parents or cascade.children):
        return
    cancel_dependants(run, cascade, shift)
    named = {"parents": Texts(cascade.parents), "children": Texts(cascade.children)}
    for job_id, queue, key in run(sql.OPEN_PARENTS_GATE, named):
        if key is None:
            cascade.add_opened([(job_id, queue)])
        else:
            cascade.keys.add(key)


def cancel_dependants(run: Run, cascade: Cascade, shift: int) -> None:
    """Cancel the dependants of what ended other than complete, and release none."""
    children = Texts(cascade.children)
    attempts = 0
    while attempts < ATTEMPTS:
        parameters = {"parents": Texts(list(cascade.parents)), "children": children, "shift": shift}
        rows = run(sql.CANCEL_DEPENDANTS, parameters)
        cancelled = [row for row in rows if row[0] is not None]
        cascade.cancelled += cascade.add_ended(cancelled)
        if len(cancelled) == len(rows) < sql.MAX_CANCELLED:
            break
        attempts += not cancelled


def fill_slots(schema: str, keys: Collection[str], shift: int) -> Sequence[tuple[str, dict[str, Any]]]:
    """The statements that give away the free slots of these keys, for one transaction; the last has rows."""
    named = {"keys": Texts(sorted(keys)), "shift": shift}
    locks = {"locks": Bigints(sorted({_lock(schema, key) for key in keys}))}
    return [(sql.LOCK_KEYS, locks), (sql.PROMOTE, named), (sql.OPEN_KEY_GATE, named)]


def _lock(schema: str, key: str) -> int:
    digest = hashlib.sha256(f"{schema}\0".encode()).digest()
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % LOCKS
    return int.from_bytes(digest[:6], "big") * LOCKS + number
