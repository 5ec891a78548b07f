"""While the store does not answer: since when, why, and when it is asked again. Pure."""

from __future__ import annotations

#: Seconds between attempts: doubling, from the first to the last.
RETRY_FIRST, RETRY_LAST = 0.1, 2.0


class Outage:
    """The state of the store as the last reply showed it."""

    def __init__(self) -> None:
        self._since: float | None = None  #: None: the last request was answered
        self._delay = RETRY_FIRST
        self.retry_at = 0.0  #: no request before
        self.trouble: Exception | None = None  #: how the last request failed, if the store did not answer it

    def begins(self, now: float) -> bool:
        """The store did not answer; True if this is the first time."""
        if self._since is not None:
            return False
        self._since = now
        return True

    def back_off(self, error: Exception, now: float) -> None:
        """The last request failed with ``error``: ask again later, and each time later."""
        self.trouble = error
        self.retry_at = now + self._delay
        self._delay = min(RETRY_LAST, self._delay * 2)

    def ends(self, now: float) -> float | None:
        """The store answered; the seconds that it had been away, None if it had not."""
        lasted = None if self._since is None else now - self._since
        self._since = self.trouble = None
        self._delay = RETRY_FIRST
        return lasted
