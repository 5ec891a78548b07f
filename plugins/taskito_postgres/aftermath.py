"""What follows from jobs that ended or came to be: children go on or are cancelled, places go to the next.

Always after the commit that caused it, in transactions of its own: each step is idempotent, and what a crash
leaves undone is found by the next sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskito_postgres import gates
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.session import Session
from taskito_postgres.sql import Statements


@dataclass(slots=True)
class Loose:
    """The loose ends that changes of jobs leave behind."""

    awaited: list[str] = field(default_factory=list)  #: ended jobs that somebody waits for
    parents: list[str] = field(default_factory=list)  #: ended jobs that have dependants
    children: list[str] = field(default_factory=list)  #: new jobs whose parents may have ended meanwhile
    keys: set[str] = field(default_factory=set)  #: that may have a free place
    queues: set[str] = field(default_factory=set)  #: that have jobs to claim which they had not
    opened: list[str] = field(default_factory=list)  #: those jobs
    cancelled: list[str] = field(default_factory=list)  #: dependants that were cancelled

    def ended(self, rows: Iterable[Sequence[Any]]) -> list[str]:
        """Take in rows of jobs that ended, as ``sql.ENDED`` names them; their ids."""
        ids = []
        for job_id, awaited, key, has_dependants in rows:
            ids.append(job_id)
            if awaited:
                self.awaited.append(job_id)
            if has_dependants:
                self.parents.append(job_id)
            if key is not None:
                self.keys.add(key)
        return ids

    @property
    def any(self) -> bool:
        """Is there anything to tie up?"""
        return bool(self.parents or self.children or self.keys)


class Aftermath:
    """Ties up loose ends on one connection."""

    def __init__(self, statements: Statements, schema: str, shift: int) -> None:
        self._statements = statements
        self._schema = schema
        self._shift = shift

    def tie_up(self, session: Session, loose: Loose) -> None:
        """Do all that follows; what there is to tell and to ring is in ``loose`` afterwards."""
        while loose.parents or loose.children:
            self._meet_children(session, loose)
        if loose.keys:
            keys, loose.keys = sorted(loose.keys), set()
            self._let_in(session, keys, loose)

    def _meet_children(self, session: Session, loose: Loose) -> None:
        parents, loose.parents = loose.parents, []
        children, loose.children = loose.children, []
        about = {"parents": Texts(parents), "children": Texts(children), "shift": self._shift}
        with session.turn() as turn:
            doomed = turn.run(self._statements[gates.DOOM], about)
            turn.cut()
            freed = turn.run(self._statements[gates.FREE], about)
        loose.cancelled += loose.ended(doomed.fetchall())
        for job_id, queue, key, due in freed.fetchall():
            if key is not None:
                loose.keys.add(key)
                continue
            loose.opened.append(job_id)
            if due:
                loose.queues.add(queue)

    def _let_in(self, session: Session, keys: list[str], loose: Loose) -> None:
        with session.turn() as turn:
            turn.run(self._statements[gates.LOCK_KEYS], {"locks": Bigints(self.locks(keys))})
            about = {"keys": Texts(keys), "shift": self._shift}
            turn.run(self._statements[gates.PROMOTE], about)
            seated = turn.run(self._statements[gates.LET_IN], about)
        for job_id, queue in seated.fetchall():
            loose.opened.append(job_id)
            loose.queues.add(queue)

    def locks(self, keys: Iterable[str]) -> list[int]:
        """The numbers of these keys' advisory locks, ascending, so that nobody deadlocks."""
        return sorted({_number(f"{self._schema}\0{key}") for key in keys})


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)
