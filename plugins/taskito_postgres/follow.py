"""What follows when jobs end or leave their place: dependants, the next of a key, and who waits to be told.

Each step is a transaction of its own, begun after the end was committed, and may be done twice. A process
that dies in between leaves the rest to ``sweep``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskito_postgres import gates, sql
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.base import Base
from taskito_postgres.connection import ATTEMPTS, again
from taskito_postgres.session import Session

#: Runs one statement of ``sql``, ``gates`` and the like in the transaction at hand; its rows.
Run = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]

#: Bytes of ids in one notification; PostgreSQL refuses 8000.
MAX_NOTIFICATION = 7000
#: Keys share this many locks: one for each would not fit the server's table of locks.
LOCKS = 256


@dataclass(slots=True)
class Aftermath:
    """What there is to follow, and what came of it."""

    parents: list[str] = field(default_factory=list)  #: jobs that ended and have dependants
    children: list[str] = field(default_factory=list)  #: jobs whose parents may have ended unseen
    keys: set[str] = field(default_factory=set)  #: concurrency keys that may have a free place
    awaited: list[str] = field(default_factory=list)  #: jobs that ended and somebody waits for
    cancelled: list[str] = field(default_factory=list)  #: dependants that were cancelled
    opened: list[str] = field(default_factory=list)  #: jobs that lost their gate
    queues: set[str] = field(default_factory=set)  #: where those are

    def ended(self, rows: Iterable[tuple[Any, ...]]) -> list[str]:
        """Take note of rows (id, awaited, key, has dependants); their ids."""
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

    def open(self, rows: Iterable[tuple[Any, ...]]) -> bool:
        """Take note of rows (id, queue) of jobs that can be claimed. False if some were passed over."""
        all_of_them = True
        for job_id, queue in rows:
            if job_id is None:
                all_of_them = False
                continue
            self.opened.append(job_id)
            self.queues.add(queue)
        return all_of_them

    def done(self) -> None:
        """There is nothing left to follow."""
        self.parents, self.children, self.keys = [], [], set()

    @property
    def goes_on(self) -> bool:
        return bool(self.parents or self.children or self.keys)


class Follow(Base):
    """What producing, consuming and managing have in common."""

    def _follow(self, session: Session, past: Aftermath) -> None:
        """Do all that follows, and note it in ``past``. Tells nobody yet. Raises psycopg's errors."""

        def run(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
            text = self._statements[statement]
            return again(lambda session: session.rows(text, parameters), session)

        pass_on(run, past, self.clock_shift)
        if past.keys:
            again(lambda session: self._let_in(session, past), session)

    def _let_in(self, session: Session, past: Aftermath) -> None:
        for _ in range(ATTEMPTS):
            with session.turn() as turn:
                for statement, parameters in let_in(self.config.schema, past.keys, self.clock_shift):
                    cursor = turn.run(self._statements[statement], parameters)
            if past.open(cursor.fetchall()):
                break
        past.keys.clear()

    def _announce(self, session: Session, past: Aftermath) -> None:
        """Tell those who wait for ends, and soon the workers that wait for jobs."""
        if past.awaited:
            parameters = {"channel": self._done_channel, "payloads": Texts(chunks(past.awaited))}
            session.rows(self._statements[sql.TELL], parameters)
        if past.queues:
            self._ringer.later(past.queues)


def pass_on(run: Run, past: Aftermath, shift: int) -> None:
    """Cancel or release the dependants of what ended; released ones with a key are left to ``let_in``."""
    if not (past.parents or past.children):
        return
    doom(run, past, shift)
    named = {"parents": Texts(past.parents), "children": Texts(past.children)}
    for job_id, queue, key in run(gates.FREE, named):
        if key is None:
            past.open([(job_id, queue)])
        else:
            past.keys.add(key)


def doom(run: Run, past: Aftermath, shift: int) -> None:
    """Cancel the dependants of what ended other than complete, and release none."""
    children = Texts(past.children)
    attempts = 0
    while attempts < ATTEMPTS:
        parameters = {"parents": Texts(list(past.parents)), "children": children, "shift": shift}
        rows = run(gates.DOOM, parameters)
        doomed = [row for row in rows if row[0] is not None]
        past.cancelled += past.ended(doomed)
        if len(doomed) == len(rows) < gates.MAX_DOOMED:
            break
        attempts += not doomed


def let_in(schema: str, keys: Collection[str], shift: int) -> Sequence[tuple[str, dict[str, Any]]]:
    """The statements that give away the free places of these keys, for one transaction; the last has rows."""
    named = {"keys": Texts(sorted(keys)), "shift": shift}
    locks = {"locks": Bigints(sorted({_lock(schema, key) for key in keys}))}
    return [(gates.LOCK_KEYS, locks), (gates.PROMOTE, named), (gates.LET_IN, named)]


def _lock(schema: str, key: str) -> int:
    digest = hashlib.sha256(f"{schema}\0".encode()).digest()
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % LOCKS
    return int.from_bytes(digest[:6], "big") * LOCKS + number


def chunks(ids: Sequence[str]) -> list[str]:
    """JSON lists of ids, each short enough for one notification."""
    done, chunk, size = [], list[str](), 0
    for job_id in ids:
        weight = len(json.dumps(job_id)) + 2
        if chunk and size + weight > MAX_NOTIFICATION:
            done.append(json.dumps(chunk))
            chunk, size = [], 0
        chunk.append(job_id)
        size += weight
    return [*done, json.dumps(chunk)] if chunk else done
