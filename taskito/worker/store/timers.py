"""When a worker looks for jobs again. Pure."""

from __future__ import annotations

#: Seconds between looks while nothing rings; the net under lost wakeups.
FALLBACK_POLL = 5.0


class Looks:
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
