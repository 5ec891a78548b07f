"""A ``Want`` as the parameters of a claim, and what the claim brought."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskito_core import Claim, Want
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.session import Cursor
from taskito_postgres.sql import claim as sql

#: Milliseconds after which to claim again where a due job was held by another transaction just now.
HELD_AGAIN = 5
#: The same where not all of the queue was looked through, or the second claim failed.
CLAIM_AGAIN = 1000

CLAIM_FIELDS = len(Claim._fields)


@dataclass(slots=True)
class Found:
    """What one claim brought."""

    claims: list[Claim]
    now: int
    alive: bool
    waiting: str | None  #: what the worker is marked as waiting for
    next_due: int | None
    knows_due: bool  #: False: next_due was not asked for
    complete: bool = True  #: False: there are more priorities than the steps went
    held: bool = False  #: a due job was passed over: a transaction held it at that moment
    sweep_at: int | None = None
    limited: frozenset[str] = frozenset()  #: queues that have limits
    lanes: Counter[str] = field(default_factory=Counter)  #: claims of each lane, if lanes are capped


class Wanted:
    """A ``Want``, as the parameters of CLAIM and NEXT_DUE."""

    __slots__ = ("_caps", "limit", "parameters", "statement", "waiting")

    def __init__(self, worker_id: str, want: Want, shift: int) -> None:
        self.limit = want.limit
        self.waiting = json.dumps(sorted(want.queues))  #: the mark of a worker that waits for it
        self.statement = sql.CLAIM_CAPPED if want.caps else sql.CLAIM
        self._caps = want.caps
        self.parameters: dict[str, Any] = {
            "worker": worker_id,
            "queues": Texts(want.queues),
            "tasks": Texts(want.tasks),
            "limit": want.limit,
            "token": want.token,
            "shift": shift,
            "limited": Texts([]),
            **_caps(want.caps),
        }

    @property
    def capped(self) -> bool:
        return bool(self._caps)

    def rest(self, found: Found) -> dict[str, Any]:
        """The parameters of what is still wanted after a first claim; lanes that are used up are left out."""
        rest = {**self.parameters, "limit": self.limit - len(found.claims)}
        if self._caps:
            left = {lane: cap - found.lanes[lane] for lane, cap in self._caps.items()}
            tasks = [task for task in self.parameters["tasks"].values if left.get(task, 1) > 0]
            rest |= {"tasks": Texts(tasks), **_caps(left)}
        return rest


def _caps(caps: Mapping[str, int]) -> dict[str, Any]:
    return {"capped": Texts(caps.keys()), "caps": Bigints(max(cap, 0) for cap in caps.values())}


class Claiming:
    """A claim on its way; ``found`` reads the answers once the round trip is over."""

    __slots__ = ("_capped", "_due", "_in_order", "_state", "_taken")

    def __init__(
        self, taken: Cursor | None, due: Cursor | None, state: Cursor, *, capped: bool, in_order: bool = False
    ) -> None:
        self._taken = taken
        self._due = due
        self._state = state
        self._capped = capped
        self._in_order = in_order

    def found(self) -> Found:
        [(now, alive, waiting, _, limited)] = self._state.fetchall()
        due = None if self._due is None else self._due.fetchone()
        earliest, depth, sweep_at = due or (None, None, None)
        held = earliest is not None and earliest <= now
        if earliest is not None:
            # Due and yet not claimed: held by a transaction that may be over in a moment.
            earliest = max(earliest, now + HELD_AGAIN)
        complete = depth is None or depth < sql.MAX_STEPS
        if not complete:
            next_claim = now + (CLAIM_AGAIN if self._in_order else HELD_AGAIN)
            earliest = min(earliest or next_claim, next_claim)
        rows = [] if self._taken is None else sorted(self._taken.fetchall(), key=position_of)
        return Found(
            claims=[Claim._make(row[:CLAIM_FIELDS]) for row in rows],
            now=now,
            alive=alive,
            waiting=waiting,
            next_due=earliest,
            knows_due=self._due is not None,
            complete=complete,
            held=held,
            sweep_at=sweep_at,
            limited=frozenset(json.loads(limited)) if limited else frozenset(),
            lanes=Counter(row[-1] for row in rows) if self._capped else Counter(),
        )


def position_of(row: tuple[Any, ...]) -> int:
    """Which claim of its statement this row is: rows come in any order."""
    position: int = row[CLAIM_FIELDS]
    return position
