"""The upkeep that comes round in every worker: which errand is due when. Pure."""

from __future__ import annotations

from enum import StrEnum


class Round(StrEnum):
    """One kind of upkeep; any worker may do it for all, and all do."""

    PRUNE = "prune"  #: rescue what nobody watches, remove what has outlived its result_ttl
    SWEEP = "sweep"  #: expire, release, let in what nobody else did
    FIRE = "fire"  #: enqueue what the schedules say


#: Seconds between two rounds at most. Who fires knows when the next slot is: more often only helps if a clock
#: was set.
INTERVALS = {Round.PRUNE: 60.0, Round.SWEEP: 10.0, Round.FIRE: 30.0}
#: Seconds after which a store that was away, or refused, is asked again.
AGAIN_AFTER = 10.0


class Rounds:
    """When each is due next; at first at once."""

    def __init__(self) -> None:
        self._due = dict.fromkeys(Round, 0.0)

    def due(self, now: float) -> Round | None:
        """The one that has been due for longest, if one is."""
        first = min(self._due, key=self._due.__getitem__)
        return first if self._due[first] <= now else None

    def next(self) -> float:
        """When ``due`` names one."""
        return min(self._due.values())

    def done(self, what: Round, now: float, pause: float | None = None) -> None:
        """Again after ``pause`` seconds, or its interval, whichever is shorter."""
        interval = INTERVALS[what]
        self._due[what] = now + (interval if pause is None else min(max(pause, 0.0), interval))

    def sooner(self, what: Round, at: float) -> None:
        """Something is known that makes it due by then."""
        self._due[what] = min(self._due[what], at)
