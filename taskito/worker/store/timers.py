"""When a worker looks for jobs again. Pure."""

from __future__ import annotations

from enum import StrEnum

#: Seconds between looks while nothing rings; the net under lost wakeups.
FALLBACK_POLL = 5.0


class ClaimTimer:
    """The next look; at first at once."""

    def __init__(self) -> None:
        self._now = True
        self._at = 0.0
        self._when_free = False

    def is_due(self, now: float, free: int) -> bool:
        """Is it time to look? ``free``: children that could begin a job at once."""
        return self._now or now >= self._at or (self._when_free and free > 0)

    def next(self, free: int) -> float:
        """When it is due without any event; in the past: now."""
        return 0.0 if self._now or (self._when_free and free > 0) else self._at

    def at_once(self) -> None:
        """Something may have come."""
        self._now = True

    def by(self, moment: float) -> None:
        """Something will have come then."""
        self._at = min(self._at, moment)

    def fell_short(self, now: float, pause: float | None, more: bool) -> None:
        """A look found less than was wanted.

        There may be more in ``pause`` seconds; and, if ``more``, as soon as a child is free.
        """
        self._now = False
        self._at = now + (FALLBACK_POLL if pause is None else min(pause, FALLBACK_POLL))
        self._when_free = more


class Upkeep(StrEnum):
    """One kind of upkeep; any worker may do it for all, and all do."""

    PRUNE = "prune"  #: rescue what nobody watches, remove what has outlived its result_ttl
    SWEEP = "sweep"  #: expire, release, let in what nobody else did
    FIRE = "fire"  #: enqueue what the schedules say


#: Seconds between two rounds at most. Who fires knows when the next slot is: more often only helps if a clock
#: was set.
INTERVALS = {Upkeep.PRUNE: 60.0, Upkeep.SWEEP: 10.0, Upkeep.FIRE: 30.0}
#: Seconds after which a store that was away, or refused, is asked again.
AGAIN_AFTER = 10.0


class UpkeepTimers:
    """When each is due next; at first at once."""

    def __init__(self) -> None:
        self._due = dict.fromkeys(Upkeep, 0.0)

    def due(self, now: float) -> Upkeep | None:
        """The one that has been due for longest, if one is."""
        first = min(self._due, key=self._due.__getitem__)
        return first if self._due[first] <= now else None

    def next(self) -> float:
        """When ``due`` names one."""
        return min(self._due.values())

    def done(self, what: Upkeep, now: float, pause: float | None = None) -> None:
        """Again after ``pause`` seconds, or its interval, whichever is shorter."""
        interval = INTERVALS[what]
        self._due[what] = now + (interval if pause is None else min(max(pause, 0.0), interval))

    def sooner(self, what: Upkeep, at: float) -> None:
        """Something is known that makes it due by then."""
        self._due[what] = min(self._due[what], at)
