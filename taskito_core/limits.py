"""The contracts of rate limiter and circuit breaker.

Every worker of a store shares both, so both are batch-first and answer from state that all of
them see. Constructing one does no I/O; each call is atomic per key or task, safe from any thread,
never blocks for a token or a probe, and raises ``StorageUnavailable`` (with the driver's exception as
``__cause__``) if the shared state cannot be reached. Durations are float seconds, moments integer
milliseconds since the epoch on the **store's** clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: ``burst`` tokens at most, refilled at ``rate`` a second."""

    rate: float
    burst: int


class QueueLimits(NamedTuple):
    """What holds for all jobs of one queue, beside what their tasks say; None: no limit."""

    concurrency: int | None = None  #: how many of them run at once, claimed ones included
    rate: RateLimit | None = None  #: how often they are claimed
    max_pending: int | None = None  #: ``enqueue`` raises QueueFull if more would be pending


class Grant(NamedTuple):
    """How many of the tokens asked for were granted."""

    granted: int
    retry_after: float  #: seconds until at least one more token can be had; 0.0 if all were granted


Wants = Mapping[str, tuple[int, RateLimit]]  #: key -> how many tokens, of which bucket


class RateLimiter(Protocol):
    """Hands out permission to start. Any number of processes may ask for the same keys."""

    #: For tests only: milliseconds added to the store's clock in everything this object does.
    clock_shift: int

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        """Take up to so many tokens of each key; one answer per key.

        In any window of w seconds the tokens granted, less those given back, are never more than
        ``burst + rate * w``, over all processes. Of 10 tokens, three takers of 7 get 7, 3 and 0. A key
        that was never asked for has a full bucket. A changed limit takes effect at once, also for the time
        since the last call. Asking for 0 only tells ``retry_after``. A clock set back gives no tokens.
        """
        ...

    def give_back(self, unused: Wants) -> None:
        """Return tokens that were granted and not used; a bucket never exceeds its burst.

        Give back at once, or not at all: a token that was held for s seconds has in part been refilled
        meanwhile, so up to ``rate * s`` more jobs may start in the window in which it is used after all.
        """
        ...

    def close(self) -> None:
        """Give back every connection. Idempotent; later calls open again."""
        ...


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When a breaker opens and for how long."""

    threshold: int  #: failures within ``window`` that open it
    window: float = 60.0  #: seconds
    cooldown: float = 300.0  #: seconds it stays open before one probe is let through


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Admission(NamedTuple):
    """May jobs of this task start?"""

    admitted: bool
    state: BreakerState  #: HALF_OPEN and admitted: one job, the probe
    retry_after: float  #: seconds after which asking again makes sense; 0.0 if admitted


class BreakerRecord(NamedTuple):
    """One breaker, as people see it."""

    task_name: str
    state: BreakerState
    failures: int  #: closed: those inside the window, at most ``threshold``; else those that opened it
    opened_at: int | None
    threshold: int
    window: float
    cooldown: float
    retry_after: float  #: seconds until the next probe may start; 0.0 if closed, or if it may start now


class CircuitBreaker(Protocol):
    """Stops starting tasks that keep failing. State is shared by every worker of the store.

    Closed, until ``threshold`` attempts failed within any ``window``, whatever succeeded in between; open for
    ``cooldown``; then half-open, with one probe over all processes: a success closes it and forgets the
    failures, a failure opens it again. The options of the last call are the ones that hold.
    """

    #: For tests only: milliseconds added to the store's clock in everything this object does.
    clock_shift: int

    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        """Ask whether jobs of these tasks may start. Half-open admits exactly one probe over all processes.

        A probe whose outcome is not recorded within ``cooldown`` is taken for lost, and the next
        ``admit`` may probe again. Changed options take effect at once: a closed breaker that remembers
        as many failures as are now enough opens here.
        """
        ...

    def withdraw(self, task_names: Sequence[str]) -> None:
        """The starts that this object was admitted for did not happen.

        If one of them was the probe, the next admission may probe at once. Another object's probe stays.
        """
        ...

    def record(
        self, outcomes: Mapping[str, tuple[Sequence[bool], BreakerOptions]]
    ) -> dict[str, BreakerState]:
        """Count ended attempts per task, in the order they ended (True: success); the states after them.

        While it is open nothing counts: those attempts began before. Half-open, the first outcome decides
        that is recorded by the object which was admitted to probe; what others record does not count. So
        a caller that still runs older attempts of the task beside its probe should not record those.
        """
        ...

    def read(self) -> list[BreakerRecord]:
        """Every breaker that was ever asked or told, by task name."""
        ...

    def reset(self, task_name: str) -> bool:
        """Close it and forget its failures; False if there is none of this name."""
        ...

    def close(self) -> None:
        """Give back every connection. Idempotent; later calls open again."""
        ...
