"""The contracts of the two gatekeepers: rate limiter and circuit breaker.

Both are shared by every worker of a store, so both are batch-first and answer from
state that all of them see. Durations are float seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: ``burst`` tokens at most, refilled at ``rate`` a second."""

    rate: float
    burst: int


class Grant(NamedTuple):
    """How many of the tokens asked for were granted."""

    granted: int
    retry_after: float  #: seconds until at least one more token can be had; 0.0 if all were granted


class RateLimiter(Protocol):
    """Hands out permission to start. Any number of processes may ask for the same key."""

    def acquire(self, key: str, n: int, limit: RateLimit) -> Grant:
        """Take up to ``n`` tokens of ``key``; never blocks for a refill.

        In any window of w seconds no more than ``burst + rate * w`` tokens are granted, over
        all processes. A changed ``limit`` takes effect at once. Atomic: of 10 tokens, three takers
        of 7 get 7, 3 and 0. Raises StorageUnavailable if the shared state cannot be reached.
        """
        ...

    def give_back(self, key: str, n: int, limit: RateLimit) -> None:
        """Return ``n`` tokens that were granted and not used; the bucket never exceeds its burst."""
        ...

    def close(self) -> None:
        """Give back every connection. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When a breaker opens and for how long."""

    threshold: int  #: failures within ``window`` that open it
    window: float  #: seconds
    cooldown: float  #: seconds it stays open before one probe is let through


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Admission(NamedTuple):
    """May a job of this task start?"""

    admitted: bool
    state: BreakerState
    retry_after: float  #: seconds after which asking again makes sense; 0.0 if admitted


class CircuitBreaker(Protocol):
    """Stops starting a task that keeps failing. State is shared by every worker of the store."""

    def admit(self, task_name: str, options: BreakerOptions) -> Admission:
        """Ask for one start. Half-open admits exactly one probe over all processes.

        A probe whose outcome is not recorded within ``cooldown`` is taken for lost, and the next
        ``admit`` may probe again. Changed ``options`` take effect at once.
        """
        ...

    def record(self, task_name: str, successes: Sequence[bool], options: BreakerOptions) -> BreakerState:
        """Count finished attempts, in the order they ended (True: success); the state after them."""
        ...

    def close(self) -> None:
        """Give back every connection. Idempotent."""
        ...
