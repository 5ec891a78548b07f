"""What the tests of circuit breakers share: options, and short ways to ask and to tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taskito_core.limits import Admission, BreakerOptions, BreakerState, CircuitBreaker
from taskito_testing.conformance.limits.base import LimitsSuite
from taskito_testing.opening import open_breaker

Connect = Callable[[], CircuitBreaker]
#: Milliseconds, far longer than any test takes.
WINDOW, COOLDOWN = 1_000_000, 4_000_000
OPTIONS = BreakerOptions(threshold=3, window=WINDOW / 1000, cooldown=COOLDOWN / 1000)


def admit(breaker: CircuitBreaker, options: BreakerOptions = OPTIONS, task: str = "task") -> Admission:
    return breaker.admit({task: options})[task]


def record(
    breaker: CircuitBreaker, *successes: bool, options: BreakerOptions = OPTIONS, task: str = "task"
) -> BreakerState:
    return breaker.record({task: (successes, options)})[task]


def open_it(breaker: CircuitBreaker, task: str = "task") -> None:
    """Let as many attempts fail as it takes."""
    assert record(breaker, False, False, False, task=task) is BreakerState.OPEN


class BreakerSuite(LimitsSuite):
    """One breaker object for each test, and how to make more."""

    open_keeper = staticmethod(open_breaker)
    calls = {
        "admit": admit,
        "record": lambda breaker: record(breaker, False),
        "withdraw": lambda breaker: breaker.withdraw(["task"]),
        "read": lambda breaker: breaker.read(),
        "reset": lambda breaker: breaker.reset("task"),
    }

    @pytest.fixture
    def breaker(self, connect: Connect) -> CircuitBreaker:
        return connect()
