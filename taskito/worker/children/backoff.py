"""How fast children that cannot start are tried again. Pure."""

from __future__ import annotations

from collections.abc import Callable

#: Seconds before the second try; doubles with every failure after it.
FIRST = 0.1
LONGEST = 30.0
#: So many seconds without a failure forgive the earlier ones.
HEALTHY_AFTER = 60.0


class BootBackoff:
    """When the next child may be started."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._failures = 0
        self._last_failure = 0.0
        self.not_before = 0.0

    def failed(self, now: float) -> float:
        """A child died before it was of any use; the seconds until the next try."""
        if now - self._last_failure > HEALTHY_AFTER + LONGEST:
            self._failures = 0
        if now < self.not_before:
            return self.not_before - now  # Several that died of one cause are one failure.
        delay = min(LONGEST, FIRST * 2.0 ** min(self._failures, 20)) * (1.0 + 0.1 * self._chance())
        self._failures += 1
        self._last_failure = now
        self.not_before = now + delay
        return delay

    def healthy(self) -> None:
        """A child finished a job: whatever was wrong is over."""
        self._failures = 0
        self.not_before = 0.0
