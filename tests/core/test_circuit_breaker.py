"""The state machine of a circuit breaker, as a table and under random histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito_core.circuit_breaker import Breaker, Probes
from taskito_core.limits import Admission, BreakerOptions, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState
OPTIONS = BreakerOptions(threshold=2, window=10.0, cooldown=20.0)
NOW = 100_000

#: State, what is recorded, with the probe of the recorder -> the state after it.
RECORDED: list[tuple[Breaker, list[bool], int | None, Breaker]] = [
    (Breaker(), [True], None, Breaker()),
    (Breaker(), [False], None, Breaker(CLOSED, (NOW,))),
    (Breaker(CLOSED, (NOW - 9_999,)), [False], None, Breaker(OPEN, (NOW - 9_999, NOW), NOW)),
    (Breaker(CLOSED, (NOW - 10_000,)), [False], None, Breaker(CLOSED, (NOW,))),
    (Breaker(CLOSED, (NOW - 5,)), [True], None, Breaker(CLOSED, (NOW - 5,))),
    (Breaker(), [False, False, False, True], None, Breaker(OPEN, (NOW, NOW), NOW)),
    (Breaker(OPEN, (1, 2), 50), [True, False], None, Breaker(OPEN, (1, 2), 50)),
    (Breaker(OPEN, (1, 2), 50), [True, False], 60, Breaker(OPEN, (1, 2), 50)),
    (Breaker(HALF_OPEN, (1, 2), 50, 60), [True], 60, Breaker()),
    (Breaker(HALF_OPEN, (1, 2), 50, 60), [False], 60, Breaker(OPEN, (1, 2), NOW)),
    (Breaker(HALF_OPEN, (1, 2), 50, 60), [True, False], 60, Breaker(CLOSED, (NOW,))),
    (Breaker(HALF_OPEN, (1, 2), 50, 60), [False, True], 60, Breaker(OPEN, (1, 2), NOW)),
    (Breaker(HALF_OPEN, (1, 2), 50, 60), [True, False], 59, Breaker(HALF_OPEN, (1, 2), 50, 60)),
    (Breaker(HALF_OPEN, (1, 2), 50, 60), [True, False], None, Breaker(HALF_OPEN, (1, 2), 50, 60)),
    (Breaker(HALF_OPEN, (1, 2), 50, None), [True], None, Breaker(HALF_OPEN, (1, 2), 50, None)),
]


@pytest.mark.parametrize(("before", "successes", "probe", "after"), RECORDED)
def test_what_is_recorded_moves_it_as_the_table_says(
    before: Breaker, successes: list[bool], probe: int | None, after: Breaker
) -> None:
    assert before.record(successes, OPTIONS, NOW, probe) == after


#: State -> may a job start, and the state after it.
ADMITTED: list[tuple[Breaker, Admission, Breaker]] = [
    (Breaker(), Admission(True, CLOSED, 0.0), Breaker()),
    (Breaker(CLOSED, (NOW - 1,)), Admission(True, CLOSED, 0.0), Breaker(CLOSED, (NOW - 1,))),
    (
        Breaker(CLOSED, (NOW - 2, NOW - 1)),
        Admission(False, OPEN, 20.0),
        Breaker(OPEN, (NOW - 2, NOW - 1), NOW),
    ),
    (Breaker(OPEN, (), NOW - 1), Admission(False, OPEN, 19.999), Breaker(OPEN, (), NOW - 1)),
    (
        Breaker(OPEN, (), NOW - 20_000),
        Admission(True, HALF_OPEN, 0.0),
        Breaker(HALF_OPEN, (), NOW - 20_000, NOW),
    ),
    (Breaker(OPEN, (), NOW + 9_999_999), Admission(False, OPEN, 20.0), Breaker(OPEN, (), NOW)),
    (
        Breaker(HALF_OPEN, (), 50, NOW - 19_500),
        Admission(False, HALF_OPEN, 0.5),
        Breaker(HALF_OPEN, (), 50, NOW - 19_500),
    ),
    (
        Breaker(HALF_OPEN, (), 50, NOW - 1),
        Admission(False, HALF_OPEN, 1.0),
        Breaker(HALF_OPEN, (), 50, NOW - 1),
    ),
    (
        Breaker(HALF_OPEN, (), 50, NOW - 20_000),
        Admission(True, HALF_OPEN, 0.0),
        Breaker(HALF_OPEN, (), 50, NOW),
    ),
    (Breaker(HALF_OPEN, (), 50, None), Admission(True, HALF_OPEN, 0.0), Breaker(HALF_OPEN, (), 50, NOW)),
]


@pytest.mark.parametrize(("before", "answer", "after"), ADMITTED)
def test_who_asks_is_answered_as_the_table_says(before: Breaker, answer: Admission, after: Breaker) -> None:
    assert before.admit(OPTIONS, NOW) == (after, answer)


def test_only_the_probe_that_is_running_can_be_withdrawn() -> None:
    probed = Breaker(HALF_OPEN, (1,), 50, 60)

    assert probed.withdraw(60) == Breaker(HALF_OPEN, (1,), 50, None)
    assert probed.withdraw(59) == probed.withdraw(None) == probed
    assert Breaker().withdraw(60) == Breaker()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "record", "withdraw"]),
        st.integers(0, 2),  # which of three workers
        st.lists(st.booleans(), min_size=1, max_size=4),
        st.sampled_from([0, 1, 2_000, 9_000, 20_000]),  # milliseconds that pass
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 4))
def test_no_history_lets_two_probes_run_or_keeps_more_failures_than_count(
    steps: list[tuple[str, int, list[bool], int]], threshold: int
) -> None:
    options = BreakerOptions(threshold, 10.0, 20.0)
    breaker, workers, now = Breaker(), [Probes() for _ in range(3)], NOW
    probes: list[int] = []  # moments at which a probe was let through that nobody has ended yet
    for call, which, successes, passed in steps:
        now += passed
        before = breaker
        probe = workers[which].get("task")
        if call == "admit":
            breaker, admission = breaker.admit(options, now)
            workers[which].admitted("task", admission, breaker)
            if admission.admitted and admission.state is HALF_OPEN:
                assert all(now - moment >= 20_000 for moment in probes)
                probes = [now]
            assert admission.admitted == (admission.retry_after == 0.0)
            assert admission.retry_after <= 20.0
        else:
            if call == "record":
                breaker = breaker.record(successes, options, now, probe)
            else:
                breaker = breaker.withdraw(probe)
            workers[which].stored("task", breaker)
            if breaker.probe_at is None:
                probes = []
        assert len(breaker.failures) <= threshold
        assert (breaker.opened_at is None) == (breaker.state is CLOSED)
        assert breaker.probe_at is None or breaker.state is HALF_OPEN
        if before.state is OPEN:
            assert breaker.state is not CLOSED
