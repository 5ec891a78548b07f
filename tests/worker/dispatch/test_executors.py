"""When executors are recalled and checked, and which take jobs."""

from __future__ import annotations

import pytest

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.executors import RECALL_AFTER, SILENT_AFTER
from tests.worker.dispatch.test_dispatcher import claim, give_five, policy, returned, sent


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher({"work": policy(), "slow": policy("slow", timeout=5.0)}, lambda: 0.0)


def test_a_child_stuck_in_one_job_is_asked_for_the_others_once(dispatcher):
    give_five(dispatcher)

    assert dispatcher.executors.recalls(RECALL_AFTER / 2, lambda _: {}) == []
    assert [executor.id for executor in dispatcher.executors.recalls(RECALL_AFTER, lambda _: {})] == [1]
    assert dispatcher.executors.recalls(RECALL_AFTER * 2, lambda _: {}) == []

    dispatcher.returned(1, [2, 3, 4, 5])
    assert sent(dispatcher, RECALL_AFTER * 2) == {}, "nothing is put behind the stuck job again"
    dispatcher.executors.open(2, 0.0)
    assert sent(dispatcher, RECALL_AFTER * 2) == {2: [2, 3, 4, 5]}


def test_the_hard_limit_is_checked_when_it_can_have_passed_and_not_before(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, "slow")], 0.0)
    dispatcher.assign(0.0)
    assert dispatcher.executors.next_check() == 5.0

    assert dispatcher.executors.overdue(1, {1: 2.0}, now=5.0) is None
    assert dispatcher.executors.next_check() == 7.0
    assert dispatcher.executors.overdue(1, {1: 2.0}, now=7.0) == 1


@pytest.mark.parametrize("timeout", [0, 0.0])
def test_a_timeout_of_zero_is_no_limit(dispatcher, timeout):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, "slow", timeout=timeout)], 0.0)
    dispatcher.assign(0.0)

    assert dispatcher.executors.overdue(1, {1: 0.0}, now=1e6) is None


def test_a_child_that_holds_jobs_and_begins_none_is_ended_after_a_while(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    dispatcher.assign(0.0)

    assert dispatcher.executors.overdue(1, {}, now=60.0) is None, "seen quiet for the first time"
    assert dispatcher.executors.overdue(1, {}, now=100.0) is None
    assert dispatcher.executors.overdue(1, {}, now=60.0 + SILENT_AFTER) == 0


def test_a_child_inside_of_a_long_job_is_not_silent(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    dispatcher.assign(0.0)

    for now in range(0, 600, 30):
        assert dispatcher.executors.overdue(1, {1: 0.0}, now=float(now)) is None
    assert dispatcher.executors.overdue(1, {}, now=600.0) is None, "its result is on the way"


def test_an_executor_that_closes_gets_nothing_more_and_ends_what_it_holds(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    [[seq]] = sent(dispatcher).values()

    dispatcher.executors.close(1)
    dispatcher.claimed([claim(2)], 0.0)

    assert sent(dispatcher) == {}
    dispatcher.results(1, [returned(seq)], 1.0)
    assert sent(dispatcher, 1.0) == {}
    assert dispatcher.executors.free() == 0
