"""What users ask of running jobs, as the dispatcher sees it: cancel, snooze, limits, own transactions."""

from __future__ import annotations

import pytest

from taskito.worker.dispatch.dispatcher import FRESH, Dispatcher
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.wire import ResultKind, ResultMessage, pack_delay
from taskito.worker.store.outbox import MAX_BATCH, Outbox
from taskito_core.job import Cancelled, Claim, Complete, Release
from taskito_core.limits import RateLimit
from taskito_core.retry import RetryPolicy


def claim(number: int, task: str = "work") -> Claim:
    return Claim(f"job{number}", 100 + number, task, "default", b"", 0, 0, 0, None, None, None, 1_000, 1_000)


def result(seq: int, kind: ResultKind, body: bytes = b"") -> ResultMessage:
    return ResultMessage(seq, kind, 0.0, 0.001, body)


@pytest.fixture
def dispatcher() -> Dispatcher:
    tasks = {
        "work": TaskPolicy("work", "default", RetryPolicy(), 0.0),
        "limited": TaskPolicy("limited", "default", RetryPolicy(), 0.0, rate_limit=RateLimit(10.0, 5)),
        "broken": TaskPolicy("broken", "default", RetryPolicy(), 0.0),
    }
    return Dispatcher(tasks, lambda: 0.0)


def run_one(dispatcher: Dispatcher, kind: ResultKind, body: bytes = b"") -> object:
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    [(_, [entry])] = dispatcher.assign(0.0)
    dispatcher.results(1, [result(entry.seq, kind, body)], 0.1)
    [decided] = dispatcher.take_outbox()
    return decided.outcome


def test_a_snoozed_job_goes_back_for_as_long_and_nothing_is_charged(dispatcher):
    assert run_one(dispatcher, ResultKind.SNOOZED, pack_delay(7.5)) == Release("job1", 101, delay=7.5)


def test_a_job_that_gave_way_is_cancelled_with_the_reason(dispatcher):
    outcome = run_one(dispatcher, ResultKind.CANCELLED, b"enough")

    assert isinstance(outcome, Cancelled)
    assert outcome.error == "enough"


def test_jobs_asked_to_cancel_go_back_unless_an_executor_holds_them(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1), claim(2), claim(3)], 0.0)
    [(executor, [held])] = dispatcher.assign(0.0)

    assert dispatcher.give_up({"job1", "job2"}) == [(executor, held)]

    assert [entry.outcome for entry in dispatcher.take_outbox()] == [Release("job2", 102)]


def test_when_a_breaker_opens_what_no_executor_holds_goes_back_and_other_tasks_stay(dispatcher):
    dispatcher.claimed([claim(1, "broken"), claim(2), claim(3, "broken")], 0.0)

    dispatcher.hand_back({"broken"})

    assert [entry.outcome for entry in dispatcher.take_outbox()] == [
        Release("job1", 101),
        Release("job3", 103),
    ]
    assert dispatcher.holding() == [("job1", 101), ("job2", 102), ("job3", 103)]
    dispatcher.executors.open(1, 0.0)
    assert [entry.claim.id for _, frame in dispatcher.assign(0.0) for entry in frame] == ["job2"]


def test_when_a_breaker_opens_executors_are_asked_at_once_for_what_they_have_not_begun(dispatcher):
    for task_name in ("work", "broken"):
        for _ in range(40):
            dispatcher.pace.learn(task_name, 0.00002)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, "broken"), claim(2, "broken"), claim(3)], 0.0)
    [(executor, [running, unbegun, other])] = dispatcher.assign(0.0)

    dispatcher.hand_back({"broken"})
    assert dispatcher.executors.next_recall() == 0.0
    assert dispatcher.executors.recalls(0.0, lambda _: {}) == [executor]
    assert dispatcher.executors.recalls(0.0, lambda _: {}) == [], "it is asked once"
    dispatcher.returned(1, [unbegun.seq, other.seq])

    assert [entry.outcome for entry in dispatcher.take_outbox()] == [Release("job2", 102)]
    dispatcher.results(1, [result(running.seq, ResultKind.RETURNED, b"value")], 0.1)
    [decided] = dispatcher.take_outbox()
    assert decided.outcome == Complete("job1", 101, b"value", 1_000)
    assert [entry.claim.id for _, frame in dispatcher.assign(0.1) for entry in frame] == ["job3"]


def test_claims_that_are_not_allowed_to_start_move_to_the_lane_of_their_task(dispatcher):
    dispatcher.claimed([claim(1), claim(2, "limited")], 0.0, {"job2"})

    assert [entry.outcome for entry in dispatcher.take_outbox()] == [Release("job2", 102, lane="limited")]


def test_jobs_with_a_token_begin_before_others_and_in_their_order(dispatcher):
    dispatcher.claimed([claim(1)], 0.0)
    dispatcher.claimed([claim(2, "limited"), claim(3, "limited")], 0.0)
    for executor_id in (1, 2, 3):
        dispatcher.executors.open(executor_id, 0.0)

    order = [entry.claim.id for _, frame in dispatcher.assign(0.0) for entry in frame]

    assert order == ["job2", "job3", "job1"]


def test_a_token_that_waited_longer_than_a_refill_is_given_up_with_its_claim(dispatcher):
    dispatcher.claimed([claim(1, "limited")], 0.0)
    dispatcher.executors.open(1, 0.0)

    assert dispatcher.assign(0.1 + FRESH) == []

    assert [entry.outcome for entry in dispatcher.take_outbox()] == [Release("job1", 101)]


def test_an_outcome_that_the_task_recorded_itself_travels_alone(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.executors.open(2, 0.0)
    dispatcher.claimed([claim(1), claim(2)], 0.0)
    for executor, [entry] in dispatcher.assign(0.0):
        kind = ResultKind.RECORDED if entry.claim.id == "job1" else ResultKind.RETURNED
        dispatcher.results(executor.id, [result(entry.seq, kind, b"value")], 0.1)
    batches = Outbox(dispatcher)

    together, alone = batches.take()
    apart, is_alone = batches.take()

    assert [entry.outcome for entry in together] == [Complete("job2", 102, b"value", 1_000)]
    assert [entry.outcome for entry in apart] == [Complete("job1", 101, b"value", 1_000)]
    assert (alone, is_alone) == (False, True)
    assert not batches.waiting


def test_a_batch_has_a_bound_and_the_rest_waits(dispatcher):
    dispatcher.drain()
    dispatcher.claimed([claim(n) for n in range(MAX_BATCH + 3)], 0.0)
    batches = Outbox(dispatcher)

    assert len(batches.take()[0]) == MAX_BATCH
    assert len(batches.take()[0]) == 3
