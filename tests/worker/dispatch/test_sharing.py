"""Which jobs share a child, how many are claimed for that, and what a death of several is charged to whom."""

from __future__ import annotations

import dataclasses

import pytest

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.executors import RECALL_AFTER
from taskito.worker.dispatch.inflight import FIRST_PAUSE, Exit
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.ipc.wire import Company
from taskito_core.job import Charge, Dead, Release, Retry
from taskito_core.retry import RetryPolicy
from tests.worker.dispatch.test_dispatcher import KILLED, claim, outcomes, policy, returned, sent

TASKS = {
    "plain": policy("plain"),
    "waits": dataclasses.replace(policy("waits"), is_async=True),
    "once": dataclasses.replace(policy("once"), is_async=True, retry=RetryPolicy(max_crashes=0)),
}


def dispatcher_of(async_concurrency: int = 4, threads: int = 1, executors: int = 1) -> Dispatcher:
    options = ChildOptions(async_concurrency=async_concurrency, threads=threads)
    dispatcher = Dispatcher(TASKS, lambda: 0.0, options)
    for executor_id in range(1, executors + 1):
        dispatcher.executors.open(executor_id, 0.0)
    return dispatcher


def waits(count: int, first: int = 0):
    return [claim(first + n, "waits") for n in range(count)]


def test_async_jobs_are_given_to_a_child_up_to_the_option_and_shared_out():
    dispatcher = dispatcher_of(executors=2)
    dispatcher.claimed(waits(10), 0.0)

    assert sent(dispatcher) == {1: [1, 3, 5, 7], 2: [2, 4, 6, 8]}


@pytest.mark.parametrize(
    ("job", "options", "company"),
    [
        (claim(1, "waits"), {}, Company.COROUTINES),
        (claim(1, "waits"), {"async_concurrency": 1}, Company.ALONE),
        (claim(1, "waits", crashes=1), {}, Company.ALONE),
        (claim(1, "once"), {}, Company.ALONE),
        (claim(1, "plain"), {}, Company.ALONE),
        (claim(1, "plain"), {"threads": 2}, Company.THREADS),
        (claim(1, "plain", crashes=1), {"threads": 2}, Company.ALONE),
    ],
)
def test_what_must_be_charged_exactly_runs_alone(job, options, company):
    dispatcher = dispatcher_of(**options)
    dispatcher.claimed([job], 0.0)

    [(_, [entry])] = dispatcher.assign(0.0)

    assert (entry.company, entry.message().company) == (company, company)


def test_a_plain_job_waits_for_an_empty_child_which_is_kept_for_it():
    dispatcher = dispatcher_of(executors=2)
    dispatcher.claimed(waits(3), 0.0)
    assert sent(dispatcher) == {1: [1, 3], 2: [2]}
    dispatcher.claimed([claim(10, "plain"), *waits(4, 11)], 0.1)

    assert sent(dispatcher, 0.1) == {1: [5, 6]}, "the second child, which holds least, becomes empty"
    dispatcher.results(2, [returned(2)], 0.2)
    assert sent(dispatcher, 0.2) == {2: [4]}
    dispatcher.results(2, [returned(4)], 0.3)
    assert sent(dispatcher, 0.3) == {2: [7, 8]}


def test_claims_are_for_as_many_as_can_run_beside_each_other():
    dispatcher = dispatcher_of(async_concurrency=10, executors=2)
    for start in range(3):
        dispatcher.claimed(waits(dispatcher.want(), 100 * start), 0.0)
        dispatcher.assign(0.0)

    held = [len(executor.outstanding) for executor in dispatcher.executors]
    assert sum(held) >= 14, "what the first claims brought says what there is"
    for _ in range(40):
        dispatcher.claimed([claim(999, "plain")], 0.0)
    assert dispatcher.want() <= 1, "of an app whose jobs are plain no more are claimed than before"


def test_a_child_whose_loop_is_blocked_gives_back_what_has_not_begun_and_is_tried_again():
    dispatcher = dispatcher_of()
    dispatcher.claimed(waits(3), 0.0)
    sent(dispatcher)

    assert dispatcher.executors.recalls(RECALL_AFTER, lambda _: {1: 0.0, 2: 0.0, 3: 0.0}) == []
    dispatcher.claimed(waits(1, 3), 0.1)
    assert sent(dispatcher, 0.1) == {1: [4]}
    [executor] = dispatcher.executors.recalls(0.1 + RECALL_AFTER, lambda _: {1: 0.0})
    dispatcher.returned(executor.id, [4])

    assert sent(dispatcher, 0.1) == {}
    assert dispatcher.executors.next_recall() == 0.1 + FIRST_PAUSE
    assert sent(dispatcher, 0.1 + FIRST_PAUSE) == {1: [4]}


def test_when_a_child_dies_under_several_each_is_charged_and_what_ended_or_waits_is_not():
    dispatcher = dispatcher_of()
    dispatcher.claimed(waits(4), 0.0)
    sent(dispatcher)

    dispatcher.lose_executor(1, Exit(KILLED, {2: 0.0, 3: 0.0}, done=1), 1.0)

    lost, second, third = outcomes(dispatcher)
    assert (lost.job_id, lost.charge) == ("job0", Charge.INTERRUPTION)
    assert [(type(each), each.job_id, each.charge) for each in (second, third)] == [
        (Retry, "job1", Charge.CRASH),
        (Retry, "job2", Charge.CRASH),
    ]
    dispatcher.executors.open(2, 1.0)
    assert sent(dispatcher, 1.0) == {2: [4]}


@pytest.mark.parametrize("why", ["timed_out", "cancelled", "ours"])
def test_when_we_kill_a_child_for_one_job_the_others_go_back_uncharged(why):
    dispatcher = dispatcher_of()
    dispatcher.claimed(waits(3), 0.0)
    sent(dispatcher)

    reason = {why: True if why == "ours" else 2}
    dispatcher.lose_executor(1, Exit(KILLED, {1: 0.0, 2: 0.0, 3: 0.0}, done=0, **reason), 1.0)

    ended = {outcome.job_id: outcome for outcome in outcomes(dispatcher)}
    assert [type(ended[job]) for job in ("job0", "job2")] == [Release, Release]
    assert isinstance(ended["job1"], Release) is (why == "ours")
    assert not isinstance(ended["job1"], Dead)


def test_a_limit_is_checked_for_each_job_that_runs():
    tasks = {"waits": dataclasses.replace(policy("waits", timeout=5.0), is_async=True)}
    dispatcher = Dispatcher(tasks, lambda: 0.0, ChildOptions(async_concurrency=4))
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed(waits(2), 0.0)
    sent(dispatcher)

    assert dispatcher.executors.overdue(1, {1: 1.0, 2: 3.0}, now=5.5) is None
    assert dispatcher.executors.next_check() == 6.0
    assert dispatcher.executors.overdue(1, {1: 1.0, 2: 3.0}, now=6.0) == 1
    assert dispatcher.executors.overdue(1, {2: 3.0}, now=8.0) == 2
