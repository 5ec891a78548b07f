"""When a worker claims again without being woken, and when its upkeep is due. Pure."""

from __future__ import annotations

from enum import StrEnum

#: Seconds between two claims while no wakeup comes; it finds what a lost wakeup should have announced.
FALLBACK_POLL = 5.0
#: Seconds after which upkeep that failed is tried again.
AGAIN_AFTER = 10.0


class Upkeep(StrEnum):
    """What every worker does for all of them now and then."""

    PRUNE = (
        "prune"  #: rescue jobs of workers that are not even suspected; remove jobs beyond their result_ttl
    )
    SWEEP = "sweep"  #: expire, release and admit what no exchange did
    FIRE = "fire"  #: enqueue the slots of periodic tasks that are due
    CHECK = "check"  #: find jobs that no live worker would take


#: Seconds between two rounds of upkeep, at most. The next slot of a schedule is known: firing more often than
#: that only helps after a clock was set.
INTERVALS = {Upkeep.PRUNE: 60.0, Upkeep.SWEEP: 10.0, Upkeep.FIRE: 30.0, Upkeep.CHECK: 30.0}


class ClaimTimer:
    """When to claim next; at first at once."""

    def __init__(self) -> None:
        self._now = True
        self._at = 0.0
        self._when_free = False

    def is_due(self, now: float, free: int) -> bool:
        """Is it time to claim? ``free``: executors that could begin a job at once."""
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
        """A claim found less than was wanted.

        There may be more in ``pause`` seconds (None: nothing is known of it); and, if ``more``, as soon as
        an executor is free.
        """
        self._now = False
        self._at = now + (FALLBACK_POLL if pause is None else min(pause, FALLBACK_POLL))
        self._when_free = more


class UpkeepTimers:
    """When each kind of upkeep is due next; at first at once."""

    def __init__(self) -> None:
        self._due = dict.fromkeys(Upkeep, 0.0)

    def due(self, now: float) -> Upkeep | None:
        """The kind that has been due for longest, if one is due."""
        first = min(self._due, key=self._due.__getitem__)
        return first if self._due[first] <= now else None

    def next(self) -> float:
        """When ``due`` names one."""
        return min(self._due.values())

    def done(self, kind: Upkeep, now: float, pause: float | None = None) -> None:
        """Again after ``pause`` seconds, or its interval, whichever is shorter."""
        interval = INTERVALS[kind]
        self._due[kind] = now + (interval if pause is None else min(max(pause, 0.0), interval))

    def sooner(self, kind: Upkeep, at: float) -> None:
        """Make it due by then."""
        self._due[kind] = min(self._due[kind], at)
