"""The contracts of the two gatekeepers, rate limiter and circuit breaker, and how their options are read.

Both are shared by every worker of a store, so both are batch-first and answer from
state that all of them see. Durations are float seconds, moments milliseconds since the epoch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NamedTuple, Protocol

from taskito_core.errors import ConfigError
from taskito_core.values import duration

_RATE = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{0,9})\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EXAMPLES = "'100/m', '10/s', '3600/h', '5/2m' or '1/d'"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: ``burst`` tokens at most, refilled at ``rate`` a second."""

    rate: float
    burst: int


class Grant(NamedTuple):
    """How many of the tokens asked for were granted."""

    granted: int
    retry_after: float  #: seconds until at least one more token can be had; 0.0 if all were granted


Wants = Mapping[str, tuple[int, RateLimit]]  #: key -> how many tokens, of which bucket


class RateLimiter(Protocol):
    """Hands out permission to start. Any number of processes may ask for the same keys."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        """Take up to so many tokens of each key; never blocks for a refill.

        In any window of w seconds no more than ``burst + rate * w`` tokens of a key are granted, over
        all processes. A changed limit takes effect at once. Atomic per key: of 10 tokens, three takers
        of 7 get 7, 3 and 0. Asking for 0 changes nothing and tells ``retry_after``. Raises StorageUnavailable
        if the shared state cannot be reached.
        """
        ...

    def give_back(self, unused: Wants) -> None:
        """Return tokens that were granted and not used; a bucket never exceeds its burst."""
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
    """One breaker, as people look at it."""

    task_name: str
    state: BreakerState
    failures: int  #: inside of the window, as far as they are remembered
    opened_at: int | None
    threshold: int
    window: float
    cooldown: float


class CircuitBreaker(Protocol):
    """Stops starting tasks that keep failing. State is shared by every worker of the store.

    Closed, until ``threshold`` attempts failed within ``window``; open for ``cooldown``; then half-open, with
    one probe over all processes: a success closes it, a failure opens it again.
    """

    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        """Ask whether jobs of these tasks may start. Half-open admits exactly one probe over all processes.

        A probe whose outcome is not recorded within ``cooldown`` is taken for lost, and the next
        ``admit`` may probe again. Changed options take effect at once. Raises StorageUnavailable.
        """
        ...

    def withdraw(self, task_names: Sequence[str]) -> None:
        """The probes that were admitted for these tasks did not start: others may probe at once."""
        ...

    def record(self, outcomes: Mapping[str, tuple[Sequence[bool], BreakerOptions]]) -> None:
        """Count ended attempts per task, in the order they ended (True: success).

        While it is open nothing counts: those attempts began before. Half-open, the first outcome decides.
        """
        ...

    def read(self) -> list[BreakerRecord]:
        """Every breaker that was ever asked, by task name."""
        ...

    def reset(self, task_name: str) -> bool:
        """Close it and forget its failures; False if there is none."""
        ...

    def close(self) -> None:
        """Give back every connection. Idempotent; later calls open again."""
        ...


def parse_rate(text: object) -> RateLimit:
    """``"100/m"`` is 100 a minute, ``"5/2m"`` 5 in two minutes; a bucket of that many tokens. ConfigError."""
    found = _RATE.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    count = int(found[1]) if found else 0
    period = int(found[2] or 1) * _UNITS[found[3]] if found else 0
    if not count or not period:
        raise ConfigError(f"rate_limit must be a count per time, such as {_EXAMPLES}, got {text!r}")
    return RateLimit(count / period, count)


def parse_breaker(given: object) -> BreakerOptions:
    """``{"threshold": 5, "window": 60, "cooldown": 300}``; the last two have defaults. ConfigError."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"circuit_breaker must be a mapping with a threshold, got {given!r}")
    known = [field.name for field in fields(BreakerOptions)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"circuit_breaker has no {name!r}{hint} (it has: {', '.join(known)})")
    threshold = given.get("threshold")
    if isinstance(threshold, bool) or not isinstance(threshold, int) or not 1 <= threshold <= 10_000:
        raise ConfigError(
            f"threshold of circuit_breaker must be a whole number from 1 to 10000, got {threshold!r}"
        )
    spans = {name: _span(name, given[name]) for name in ("window", "cooldown") if name in given}
    return BreakerOptions(threshold, **spans)


def _span(name: str, value: object) -> float:
    try:
        found = duration(value)
    except (TypeError, ValueError, OverflowError):
        found = 0.0
    if found <= 0:
        raise ConfigError(f"{name} of circuit_breaker must be seconds above 0, got {value!r}")
    return found
