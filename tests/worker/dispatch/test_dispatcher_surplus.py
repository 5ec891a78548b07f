"""How much a dispatcher claims ahead, and what goes back because no child will soon be free for it."""

from __future__ import annotations

import pytest

from taskito.worker.dispatch.dispatcher import MAX_CLAIM, PATIENCE, Dispatcher
from taskito.worker.dispatch.executors import RECALL_AFTER
from taskito_core.job import Release
from tests.worker.dispatch.test_dispatcher import claim, learn_fast, outcomes, policy, returned, sent


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher({"work": policy(), "slow": policy("slow")}, lambda: 0.0)


def open_two(dispatcher: Dispatcher) -> None:
    dispatcher.executors.open(1, 0.0)
    dispatcher.executors.open(2, 0.0)


def back(dispatcher: Dispatcher, now: float) -> list[str]:
    """The jobs that are handed back then."""
    dispatcher.return_surplus(now)
    released = outcomes(dispatcher)
    assert all(isinstance(outcome, Release) for outcome in released)
    return [outcome.job_id for outcome in released]


def test_before_anything_is_known_of_its_jobs_a_worker_claims_one_for_each_child(dispatcher):
    open_two(dispatcher)
    assert dispatcher.want() == 2


@pytest.mark.parametrize("seconds", [0.05, 6.0])
def test_nothing_is_claimed_ahead_of_jobs_that_take_long(dispatcher, seconds):
    for _ in range(40):
        dispatcher.pace.learn("slow", seconds)
    open_two(dispatcher)
    dispatcher.claimed([claim(1, "slow"), claim(2, "slow")], 0.0)
    dispatcher.assign(0.0)

    assert dispatcher.want() == 0


@pytest.mark.parametrize(("seconds", "at_least"), [(0.00002, MAX_CLAIM), (0.001, 20), (0.01, 2), (0.02, 2)])
def test_while_children_run_short_jobs_what_will_soon_begin_is_claimed_ahead(dispatcher, seconds, at_least):
    for _ in range(40):
        dispatcher.pace.learn("work", seconds)
    open_two(dispatcher)
    dispatcher.claimed([claim(1), claim(2)], 0.0)
    dispatcher.assign(0.0)

    assert dispatcher.want() >= at_least
    dispatcher.claimed([claim(n) for n in range(3, 3 + dispatcher.want())], 0.0)
    assert back(dispatcher, 0.0) == [], "what was claimed ahead is not handed back at once"
    assert dispatcher.want() == 0


@pytest.mark.parametrize("task", ["never seen", "known to be long"])
def test_what_waits_behind_long_jobs_goes_back_at_once(dispatcher, task):
    if task == "known to be long":
        dispatcher.pace.learn("slow", 6.0)
    for _ in range(2):
        learn_fast(dispatcher)
    open_two(dispatcher)
    assert dispatcher.want() > 6, "nothing but short jobs were seen so far"
    dispatcher.claimed([claim(n, "slow") for n in range(6)], 0.0)

    assert sent(dispatcher) == {1: [1], 2: [2]}
    assert back(dispatcher, 0.0) == ["job2", "job3", "job4", "job5"]
    assert dispatcher.want() == 0


def test_a_long_job_that_is_next_stays_and_what_is_behind_it_goes_back(dispatcher):
    learn_fast(dispatcher)
    dispatcher.pace.learn("slow", 6.0)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1), claim(2, "slow"), claim(3, "slow"), claim(4)], 0.0)

    assert sent(dispatcher) == {1: [1]}
    assert back(dispatcher, 0.0) == ["job3", "job4"]


def test_what_waits_behind_jobs_that_take_longer_than_they_used_to_goes_back_soon(dispatcher):
    learn_fast(dispatcher)
    open_two(dispatcher)
    dispatcher.claimed([claim(n) for n in range(400)], 0.0)
    given = sent(dispatcher)
    assert back(dispatcher, 0.0) == []

    due = dispatcher.next_surplus()
    assert due < PATIENCE
    everything = {f"job{n}" for n in range(400)} - {
        f"job{seq - 1}" for seqs in given.values() for seq in seqs
    }
    assert back(dispatcher, due + 0.001) == sorted(everything, key=lambda job_id: int(job_id[3:]))
    assert dispatcher.next_surplus() == float("inf")


def test_an_end_that_is_near_does_not_keep_what_waits_for_one_that_is_late(dispatcher):
    learn_fast(dispatcher)
    dispatcher.pace.learn("slow", 6.0)
    open_two(dispatcher)
    dispatcher.claimed([claim(0, "slow"), *[claim(n) for n in range(1, 9)]], 0.0)
    assert len(dispatcher.assign(0.0)) == 2
    dispatcher.claimed([claim(n) for n in range(9, 12)], 0.0)

    dispatcher.return_surplus(0.0)

    assert dispatcher.next_surplus() < PATIENCE


def test_nothing_is_put_behind_a_job_that_would_be_recalled_for_it(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    dispatcher.assign(0.0)
    assert dispatcher.want() > 0

    dispatcher.assign(RECALL_AFTER)

    assert dispatcher.want() == 0


def test_while_jobs_end_in_time_nothing_goes_back(dispatcher):
    learn_fast(dispatcher)
    open_two(dispatcher)
    now = 0.0
    for first in range(0, 4000, 400):
        dispatcher.claimed([claim(n) for n in range(first, first + 400)], now)
        while frames := dispatcher.assign(now):
            assert back(dispatcher, now) == []
            now += 0.005  # Several times of what was expected.
            for executor, frame in frames:
                dispatcher.results(executor.id, [returned(entry.seq, ran=0.00002) for entry in frame], now)
            assert len(dispatcher.take_outbox()) == sum(len(frame) for _, frame in frames)


def test_a_child_that_takes_no_further_job_keeps_none_waiting(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    assert sent(dispatcher) == {1: [1]}

    dispatcher.executors.close(1)
    dispatcher.claimed([claim(2)], 0.0)

    assert back(dispatcher, 0.0) == ["job2"]


def test_a_child_that_holds_jobs_which_turn_out_not_to_be_short_is_asked_for_them(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(n) for n in range(20)], 0.0)
    [seqs] = sent(dispatcher).values()

    dispatcher.results(1, [returned(seqs[0], ran=0.015)], 0.015)
    assert dispatcher.executors.recalls(0.015, lambda _: {}) == [], (
        "once is nothing: any process is stopped now and then"
    )
    dispatcher.results(1, [returned(seqs[1], ran=0.015)], 0.03)
    assert [executor.id for executor in dispatcher.executors.recalls(0.03, lambda _: {})] == [1]
    dispatcher.returned(1, seqs[3:])

    outcomes(dispatcher)
    assert sent(dispatcher, 0.03) == {}
    assert len(back(dispatcher, 0.03)) > 5, "most of them go to other workers"
