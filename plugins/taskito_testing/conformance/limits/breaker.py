"""The contract of circuit breakers as tests: what opens one, what closes it, and who may probe."""

from __future__ import annotations

import pytest

from taskito_core.limits import BreakerOptions, BreakerRecord, BreakerState, CircuitBreaker
from taskito_testing.conformance.limits.breaker_base import (
    COOLDOWN,
    OPTIONS,
    WINDOW,
    BreakerSuite,
    Connect,
    admit,
    open_it,
    record,
)
from taskito_testing.conformance.limits.breaker_sharing import Sharing

CLOSED, OPEN, HALF_OPEN = BreakerState


class CircuitBreakerConformance(Sharing, BreakerSuite):
    """Subclass it as ``TestSomething`` and define the fixture ``limits_url``: EMPTY breakers per test."""

    # ---- closed ----

    def test_a_breaker_that_was_never_asked_is_closed(self, breaker: CircuitBreaker) -> None:
        assert admit(breaker) == (True, CLOSED, 0.0)

    def test_it_opens_at_its_threshold_and_says_for_how_long(self, breaker: CircuitBreaker) -> None:
        assert record(breaker, False, False) is CLOSED
        assert admit(breaker).admitted
        assert record(breaker, False) is OPEN

        refused = admit(breaker)

        assert (refused.admitted, refused.state) == (False, OPEN)
        assert COOLDOWN / 1000 - 60 < refused.retry_after <= COOLDOWN / 1000

    def test_a_success_in_between_makes_no_difference(self, breaker: CircuitBreaker) -> None:
        record(breaker, False, True, False, True, True)

        assert record(breaker, True) is CLOSED
        assert record(breaker, False) is OPEN

    def test_successes_never_open_it(self, breaker: CircuitBreaker) -> None:
        assert record(breaker, *[True] * 20) is CLOSED

    def test_failures_that_are_older_than_the_window_do_not_count(self, breaker: CircuitBreaker) -> None:
        record(breaker, False, False)

        breaker.clock_shift = WINDOW

        assert record(breaker, False) is CLOSED
        assert breaker.read()[0].failures == 1

    def test_the_window_slides(self, breaker: CircuitBreaker) -> None:
        states = []
        for moment in (0, WINDOW // 2, WINDOW, WINDOW + WINDOW // 4):
            breaker.clock_shift = moment
            states.append(record(breaker, False))

        # At the third the first has left the window; at the fourth the second is still in it.
        assert states == [CLOSED, CLOSED, CLOSED, OPEN]

    def test_one_failure_is_enough_for_a_threshold_of_one(self, breaker: CircuitBreaker) -> None:
        assert record(breaker, False, options=BreakerOptions(1)) is OPEN

    def test_every_task_has_a_breaker_of_its_own(self, breaker: CircuitBreaker) -> None:
        states = breaker.record(
            {"b": ((False,) * 3, OPTIONS), "a": ((True,) * 3, OPTIONS), "c": ((False,), BreakerOptions(1))}
        )
        answers = breaker.admit(dict.fromkeys("cabd", OPTIONS))

        assert states == {"a": CLOSED, "b": OPEN, "c": OPEN}
        assert {task: answer.admitted for task, answer in answers.items()} == {
            "a": True,
            "b": False,
            "c": False,
            "d": True,
        }

    def test_asking_and_telling_about_no_task_changes_nothing(self, breaker: CircuitBreaker) -> None:
        assert breaker.admit({}) == {}
        assert breaker.record({}) == {}
        breaker.withdraw([])

        assert breaker.read() == []

    # ---- open ----

    @pytest.mark.parametrize("late", [True, False])
    def test_what_ends_while_it_is_open_neither_closes_nor_prolongs_it(
        self, breaker: CircuitBreaker, late: bool
    ) -> None:
        open_it(breaker)

        breaker.clock_shift = COOLDOWN // 2
        assert record(breaker, late, late, late) is OPEN

        breaker.clock_shift = COOLDOWN
        assert admit(breaker) == (True, HALF_OPEN, 0.0)

    def test_what_ended_after_the_failure_that_opened_it_does_not_count(
        self, breaker: CircuitBreaker
    ) -> None:
        assert record(breaker, False, False, False, True, True) is OPEN

    # ---- half-open ----

    def test_after_the_cooldown_exactly_one_start_is_let_through(
        self, breaker: CircuitBreaker, connect: Connect
    ) -> None:
        open_it(breaker)
        other = connect()
        breaker.clock_shift = other.clock_shift = COOLDOWN

        assert admit(other) == (True, HALF_OPEN, 0.0)

        for asking in (breaker, other, breaker):
            refused = admit(asking)
            assert (refused.admitted, refused.state) == (False, HALF_OPEN)
            # Soon: the probe may end at any moment.
            assert 0 < refused.retry_after <= 1.0

    def test_a_good_probe_closes_it_and_the_failures_are_forgotten(self, breaker: CircuitBreaker) -> None:
        open_it(breaker)
        breaker.clock_shift = COOLDOWN
        admit(breaker)

        assert record(breaker, True) is CLOSED

        assert admit(breaker) == (True, CLOSED, 0.0)
        assert record(breaker, False, False) is CLOSED

    def test_a_bad_probe_opens_it_for_another_cooldown(self, breaker: CircuitBreaker) -> None:
        open_it(breaker)
        breaker.clock_shift = COOLDOWN
        admit(breaker)

        assert record(breaker, False) is OPEN

        breaker.clock_shift = COOLDOWN + COOLDOWN // 2
        assert admit(breaker).state is OPEN
        breaker.clock_shift = 2 * COOLDOWN
        assert admit(breaker) == (True, HALF_OPEN, 0.0)

    def test_what_follows_a_good_probe_in_one_batch_counts(self, breaker: CircuitBreaker) -> None:
        open_it(breaker)
        breaker.clock_shift = COOLDOWN
        admit(breaker)

        assert record(breaker, True, False, False) is CLOSED
        assert record(breaker, False) is OPEN

    def test_a_probe_that_is_not_heard_of_within_the_cooldown_is_lost(
        self, breaker: CircuitBreaker, connect: Connect
    ) -> None:
        open_it(breaker)
        other = connect()
        breaker.clock_shift = COOLDOWN
        admit(breaker)

        other.clock_shift = 2 * COOLDOWN

        assert admit(other) == (True, HALF_OPEN, 0.0)

    @pytest.mark.parametrize("late", [True, False])
    def test_the_outcome_of_a_lost_probe_does_not_count_once_there_is_another(
        self, breaker: CircuitBreaker, connect: Connect, late: bool
    ) -> None:
        open_it(breaker)
        other = connect()
        breaker.clock_shift = COOLDOWN
        admit(breaker)
        breaker.clock_shift = other.clock_shift = 2 * COOLDOWN
        admit(other)

        assert record(breaker, late) is HALF_OPEN
        assert record(other, True) is CLOSED

    @pytest.mark.parametrize("late", [True, False])
    def test_what_others_record_while_a_probe_runs_does_not_count(
        self, breaker: CircuitBreaker, connect: Connect, late: bool
    ) -> None:
        open_it(breaker)
        other = connect()
        breaker.clock_shift = other.clock_shift = COOLDOWN
        admit(breaker)

        assert record(other, late, late) is HALF_OPEN
        assert record(breaker, False) is OPEN

    # ---- starts that did not happen ----

    def test_a_probe_that_is_withdrawn_frees_its_place_at_once(
        self, breaker: CircuitBreaker, connect: Connect
    ) -> None:
        open_it(breaker)
        other = connect()
        breaker.clock_shift = other.clock_shift = COOLDOWN
        admit(breaker)

        breaker.withdraw(["task", "unknown"])

        assert admit(other) == (True, HALF_OPEN, 0.0)
        assert record(breaker, True) is HALF_OPEN

    def test_nobody_withdraws_the_probe_of_another(self, breaker: CircuitBreaker, connect: Connect) -> None:
        open_it(breaker)
        other = connect()
        breaker.clock_shift = other.clock_shift = COOLDOWN
        admit(breaker)

        other.withdraw(["task"])

        assert not admit(other).admitted

    def test_withdrawing_from_a_closed_breaker_changes_nothing(self, breaker: CircuitBreaker) -> None:
        record(breaker, False, False)
        admit(breaker)

        breaker.withdraw(["task"])

        assert record(breaker, False) is OPEN

    # ---- options that change ----

    def test_a_shorter_cooldown_counts_at_once(self, breaker: CircuitBreaker) -> None:
        open_it(breaker)
        breaker.clock_shift = COOLDOWN // 2

        assert not admit(breaker).admitted
        assert admit(breaker, BreakerOptions(3, WINDOW / 1000, COOLDOWN / 4000)).admitted

    def test_a_longer_cooldown_counts_at_once(self, breaker: CircuitBreaker) -> None:
        open_it(breaker)
        breaker.clock_shift = COOLDOWN

        assert not admit(breaker, BreakerOptions(3, WINDOW / 1000, COOLDOWN / 500)).admitted

    def test_a_lower_threshold_counts_at_once(self, breaker: CircuitBreaker) -> None:
        record(breaker, False, False)

        assert admit(breaker, BreakerOptions(2, WINDOW / 1000)).state is OPEN

    def test_a_higher_threshold_counts_at_once(self, breaker: CircuitBreaker) -> None:
        record(breaker, False, False)

        assert record(breaker, False, options=BreakerOptions(4, WINDOW / 1000)) is CLOSED

    def test_a_shorter_window_counts_at_once(self, breaker: CircuitBreaker) -> None:
        record(breaker, False, False)
        breaker.clock_shift = WINDOW // 2

        assert record(breaker, False, options=BreakerOptions(3, WINDOW / 4000)) is CLOSED

    def test_a_clock_that_goes_back_makes_nobody_wait_longer_than_a_cooldown(
        self, breaker: CircuitBreaker
    ) -> None:
        breaker.clock_shift = 100 * COOLDOWN
        open_it(breaker)

        breaker.clock_shift = 0
        refused = admit(breaker)
        breaker.clock_shift = COOLDOWN

        assert refused.retry_after <= COOLDOWN / 1000
        assert admit(breaker) == (True, HALF_OPEN, 0.0)

    # ---- looking and resetting ----

    def test_breakers_are_read_by_name_with_all_that_people_ask(self, breaker: CircuitBreaker) -> None:
        admit(breaker, BreakerOptions(2, 5.5, 7.25), "b-asked")
        record(breaker, False, task="a-failed")
        open_it(breaker, "c-open")

        asked, failed, opened = sorted(breaker.read(), key=lambda one: one.task_name[2:])

        assert [one.task_name for one in breaker.read()] == ["a-failed", "b-asked", "c-open"]
        assert asked == BreakerRecord("b-asked", CLOSED, 0, None, 2, 5.5, 7.25, 0.0)
        assert (failed.state, failed.failures, failed.opened_at) == (CLOSED, 1, None)
        assert (opened.state, opened.failures, opened.threshold) == (OPEN, 3, 3)
        assert opened.opened_at is not None
        assert COOLDOWN / 1000 - 60 < opened.retry_after <= COOLDOWN / 1000

    def test_failures_are_read_as_long_as_they_count(self, breaker: CircuitBreaker) -> None:
        record(breaker, False, False)

        breaker.clock_shift = WINDOW

        assert [one.failures for one in breaker.read()] == [0]

    def test_a_breaker_whose_cooldown_is_over_may_be_probed_now(self, breaker: CircuitBreaker) -> None:
        open_it(breaker)
        breaker.clock_shift = COOLDOWN
        [over] = breaker.read()
        admit(breaker)
        [probed] = breaker.read()

        assert (over.state, over.retry_after) == (OPEN, 0.0)
        assert probed.state is HALF_OPEN
        assert COOLDOWN / 1000 - 60 < probed.retry_after <= COOLDOWN / 1000

    @pytest.mark.parametrize("probing", [True, False])
    def test_a_reset_closes_it_and_forgets_its_failures(
        self, breaker: CircuitBreaker, connect: Connect, probing: bool
    ) -> None:
        open_it(breaker)
        if probing:
            breaker.clock_shift = COOLDOWN
            admit(breaker)

        assert connect().reset("task") is True

        assert admit(breaker) == (True, CLOSED, 0.0)
        assert record(breaker, False, False) is CLOSED
        assert [(one.state, one.opened_at) for one in breaker.read()] == [(CLOSED, None)]

    def test_resetting_a_breaker_that_nobody_knows_is_false(self, breaker: CircuitBreaker) -> None:
        assert breaker.reset("task") is False
        assert breaker.read() == []
