"""What another process does to the limiter or breaker under test. Run as a script, as ``actor``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from taskito_core.errors import StorageError
from taskito_core.limits import BreakerOptions, CircuitBreaker, RateLimit, RateLimiter
from taskito_testing.conformance.actor import hear, in_child, say
from taskito_testing.opening import open_breaker, open_limiter


def hammer(limiter: RateLimiter, key: str, rate: float, burst: int, seconds: float) -> None:
    """Take all there is, again and again; give some back at once. Say how many were kept."""
    limit = RateLimit(rate, burst)
    kept, calls, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        granted = limiter.acquire({key: (3, limit), f"{key}-other": (1, limit)})[key].granted
        calls += 1
        if granted and calls % 4 == 0:
            limiter.give_back({key: (1, limit)})
            granted -= 1
        kept += granted
    say(kept)


def take_after_fork(limiter: RateLimiter) -> None:
    """Say what a child may do with a limiter that was in use before the fork, and what is left after it."""
    wants = {"key": (1, RateLimit(0.001, 9))}
    limiter.acquire(wants)
    say(in_child(lambda: _tried(lambda: limiter.acquire(wants))))
    say(limiter.acquire({"key": (9, RateLimit(0.001, 9))})["key"].granted)


def probe(breaker: CircuitBreaker, task: str, options: list[Any]) -> None:
    """Ask for one start; say whether it is the probe, and stay, holding it, until told to end."""
    admission = breaker.admit({task: BreakerOptions(*options)})[task]
    say(admission.admitted)
    hear()


def fail(breaker: CircuitBreaker, task: str, options: list[Any], times: int) -> None:
    """Record so many failures, one by one; say so."""
    for _ in range(times):
        breaker.record({task: ((False,), BreakerOptions(*options))})
    say("done")


def admit_after_fork(breaker: CircuitBreaker) -> None:
    """Say what a child may do with a breaker that was in use before the fork, and how the parent goes on."""
    tasks = {"task": BreakerOptions(1)}
    breaker.admit(tasks)
    say(in_child(lambda: _tried(lambda: breaker.admit(tasks))))
    say(breaker.admit(tasks)["task"].admitted)


def _tried(call: Callable[[], object]) -> str:
    try:
        call()
    except StorageError as exc:
        return f"refused: {exc}"
    except BaseException as exc:  # the suite wants to see what escaped
        return f"escaped: {exc!r}"
    return "answered"


OF_LIMITERS: dict[str, Callable[..., None]] = {act.__name__: act for act in (hammer, take_after_fork)}
OF_BREAKERS: dict[str, Callable[..., None]] = {act.__name__: act for act in (probe, fail, admit_after_fork)}


def main() -> None:
    url, schema, action, arguments = sys.argv[1:]
    keeper: Any = open_limiter(url, schema) if action in OF_LIMITERS else open_breaker(url, schema)
    say("ready")
    hear()
    (OF_LIMITERS | OF_BREAKERS)[action](keeper, **json.loads(arguments))
    keeper.close()


if __name__ == "__main__":
    main()
