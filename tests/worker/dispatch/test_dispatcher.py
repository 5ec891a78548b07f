"""The dispatcher's decisions, one at a time: no process, no store, no clock."""

from __future__ import annotations

import pytest

from taskito.worker.dispatch.dispatcher import MAX_FRAME, Dispatcher
from taskito.worker.dispatch.inflight import Exit
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.wire import ResultKind, ResultMessage, pack_error
from taskito_core.job import (
    Charge,
    Claim,
    Complete,
    Dead,
    DeadReason,
    ErrorInfo,
    ErrorKind,
    Release,
    Retry,
)
from taskito_core.retry import RetryPolicy

KILLED = ErrorInfo(ErrorKind.CRASH, "SIGKILL", "the process running the job was killed by SIGKILL")


def policy(name: str = "work", *, retries: int = 3, timeout: float = 0.0) -> TaskPolicy:
    return TaskPolicy(name, "default", RetryPolicy(max_retries=retries, jitter=False), timeout)


def claim(number: int, task: str = "work", **fields: object) -> Claim:
    whole = Claim(f"job{number}", 100 + number, task, "default", b"", 0, 0, 0, None, None, None, 1_000, 1_000)
    return whole._replace(**fields)  # type: ignore[arg-type]


def returned(seq: int, ran: float = 0.001, started: float = 0.0) -> ResultMessage:
    return ResultMessage(seq, ResultKind.RETURNED, started, ran, b"value")


def raised(seq: int, retryable: bool = True) -> ResultMessage:
    error = ErrorInfo(ErrorKind.RAISED, "ValueError", "bad")
    return ResultMessage(seq, ResultKind.RAISED, 0.0, 0.001, pack_error(error, retryable))


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher({"work": policy(), "slow": policy("slow", timeout=5.0)}, lambda: 0.0)


def learn_fast(dispatcher: Dispatcher, task: str = "work") -> None:
    for _ in range(40):
        dispatcher.pace.learn(task, 0.00002)


def outcomes(dispatcher: Dispatcher) -> list[object]:
    return [entry.outcome for entry in dispatcher.take_outbox()]


def sent(dispatcher: Dispatcher, now: float = 0.0) -> dict[int, list[int]]:
    return {executor.id: [entry.seq for entry in frame] for executor, frame in dispatcher.assign(now)}


def test_without_an_executor_nothing_is_claimed(dispatcher):
    assert dispatcher.want() == 0


def test_jobs_of_an_unknown_pace_travel_alone(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.executors.open(2, 0.0)
    dispatcher.claimed([claim(n) for n in range(6)], 0.0)

    assert sorted(len(seqs) for seqs in sent(dispatcher).values()) == [1, 1]


def test_short_jobs_travel_together_and_are_shared_out(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.executors.open(2, 0.0)
    dispatcher.claimed([claim(n) for n in range(40)], 0.0)

    assert [len(seqs) for seqs in sent(dispatcher).values()] == [20, 20]


def test_a_frame_is_never_longer_than_its_bound(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(n) for n in range(400)], 0.0)

    assert len(sent(dispatcher)[1]) == MAX_FRAME


def test_a_slow_job_is_never_put_behind_others(dispatcher):
    learn_fast(dispatcher)
    dispatcher.pace.learn("slow", 1.0)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1), claim(2), claim(3, "slow")], 0.0)

    assert sent(dispatcher) == {1: [1, 2]}


def test_no_look_ahead_while_slow_jobs_are_buffered(dispatcher):
    learn_fast(dispatcher)
    dispatcher.pace.learn("slow", 10.0)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, "slow"), claim(2, "slow")], 0.0)
    dispatcher.assign(0.0)

    assert dispatcher.want() == 0


def test_a_result_becomes_a_completed_job_with_its_real_start(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 50.0)
    dispatcher.assign(50.0)

    dispatcher.results(1, [returned(1, started=50.25)], 51.0)

    assert outcomes(dispatcher) == [Complete("job1", 101, b"value", 1_250)]


def test_a_failure_is_retried_until_the_retries_are_used_up(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, retry_count=2)], 0.0)
    dispatcher.assign(0.0)
    dispatcher.results(1, [raised(1)], 0.0)
    dispatcher.claimed([claim(2, retry_count=3)], 0.0)
    dispatcher.assign(0.0)
    dispatcher.results(1, [raised(2)], 0.0)

    [retry, dead] = outcomes(dispatcher)
    assert isinstance(retry, Retry)
    assert (retry.charge, retry.delay) == (Charge.RETRY, 4.0)
    assert isinstance(dead, Dead)
    assert dead.reason is DeadReason.RETRIES


def test_an_error_that_is_not_retryable_is_dead_at_once(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    dispatcher.assign(0.0)
    dispatcher.results(1, [raised(1, retryable=False)], 0.0)

    [dead] = outcomes(dispatcher)
    assert isinstance(dead, Dead)
    assert dead.reason is DeadReason.NOT_RETRYABLE


def test_the_jobs_own_max_retries_beats_the_tasks(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, max_retries=0)], 0.0)
    dispatcher.assign(0.0)
    dispatcher.results(1, [raised(1)], 0.0)

    assert isinstance(outcomes(dispatcher)[0], Dead)


def test_a_task_we_do_not_know_goes_to_its_own_lane_unrun(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, "elsewhere")], 0.0)

    assert sent(dispatcher) == {}
    assert outcomes(dispatcher) == [Release("job1", 101, "elsewhere")]


def test_a_job_interrupted_too_often_is_dead_without_running(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, interruptions=10)], 0.0)

    [dead] = outcomes(dispatcher)
    assert isinstance(dead, Dead)
    assert dead.reason is DeadReason.INTERRUPTIONS


def give_five(dispatcher: Dispatcher) -> None:
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(n) for n in range(1, 6)], 0.0)
    dispatcher.assign(0.0)


def test_a_crash_charges_the_running_job_and_hands_the_rest_on(dispatcher):
    give_five(dispatcher)
    dispatcher.results(1, [returned(1)], 0.0)

    dispatcher.lose_executor(1, Exit(KILLED, running={2: 0.0}, done=1), 0.0)
    dispatcher.executors.open(2, 0.0)

    [complete, crash] = outcomes(dispatcher)
    assert isinstance(complete, Complete)
    assert isinstance(crash, Retry)
    assert (crash.job_id, crash.charge) == ("job2", Charge.CRASH)
    assert sent(dispatcher) == {2: [3, 4, 5]}


def test_a_job_whose_end_was_not_reported_is_an_interruption_and_not_a_crash(dispatcher):
    give_five(dispatcher)

    dispatcher.lose_executor(1, Exit(KILLED, running={3: 0.0}, done=2), 0.0)

    charges = {o.job_id: o.charge for o in outcomes(dispatcher)}
    assert charges == {"job1": Charge.INTERRUPTION, "job2": Charge.INTERRUPTION, "job3": Charge.CRASH}


def test_the_third_crash_is_the_last(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, crashes=2)], 0.0)
    dispatcher.assign(0.0)
    dispatcher.lose_executor(1, Exit(KILLED, running={1: 0.0}, done=0), 0.0)

    [dead] = outcomes(dispatcher)
    assert isinstance(dead, Dead)
    assert (dead.reason, dead.charge) == (DeadReason.CRASHES, Charge.CRASH)


def test_a_hard_timeout_is_a_failed_attempt(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, "slow")], 0.0)
    dispatcher.assign(0.0)
    dispatcher.lose_executor(1, Exit(KILLED, running={1: 0.0}, done=0, timed_out=1), 6.0)

    [retry] = outcomes(dispatcher)
    assert isinstance(retry, Retry)
    assert (retry.charge, retry.error.kind) == (Charge.RETRY, ErrorKind.TIMEOUT)


def test_what_a_shutdown_kills_is_handed_back_uncharged(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    dispatcher.assign(0.0)
    dispatcher.drain()
    dispatcher.lose_executor(1, Exit(KILLED, running={1: 0.0}, done=0, ours=True), 0.0)

    assert outcomes(dispatcher) == [Release("job1", 101)]
    assert dispatcher.interrupted == 1


def test_draining_hands_back_the_buffer_and_all_that_comes_after(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1), claim(2)], 0.0)
    dispatcher.assign(0.0)

    dispatcher.drain()
    dispatcher.claimed([claim(3)], 0.0)

    assert outcomes(dispatcher) == [Release("job2", 102), Release("job3", 103)]
    assert dispatcher.want() == 0


def test_a_claim_that_no_child_takes_goes_back(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1), claim(2)], 0.0)
    dispatcher.assign(0.0)

    dispatcher.return_surplus(0.0)

    assert outcomes(dispatcher) == [Release("job2", 102)]
    assert dispatcher.want() == 0, "it must not be claimed again at once, but left to other workers"
    dispatcher.results(1, [returned(1)], 2.0)
    assert dispatcher.want() > 0


def test_an_unanswered_batch_is_sent_again_before_anything_newer(dispatcher):
    give_five(dispatcher)
    dispatcher.results(1, [returned(1), returned(2)], 0.0)
    batch = dispatcher.take_outbox()
    dispatcher.results(1, [returned(3)], 0.0)

    dispatcher.unsettled(batch)

    assert [entry.seq for entry in dispatcher.take_outbox()] == [1, 2, 3]


def test_a_claim_is_in_flight_until_the_store_has_answered(dispatcher):
    give_five(dispatcher)
    dispatcher.results(1, [returned(n) for n in range(1, 6)], 0.0)
    assert len(dispatcher.holding()) == 5

    batch = dispatcher.take_outbox()
    fenced = dispatcher.settled(batch, frozenset({"job1", "job2", "job3", "job4"}))

    assert [entry.claim.id for entry in fenced] == ["job5"]
    assert dispatcher.idle()


def test_a_task_that_raises_worker_shutdown_by_itself_has_failed(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    dispatcher.assign(0.0)
    dispatcher.results(1, [ResultMessage(1, ResultKind.INTERRUPTED, 0.0, 0.1, b"")], 0.0)

    [retry] = outcomes(dispatcher)
    assert isinstance(retry, Retry)
    assert (retry.charge, retry.error.type) == (Charge.RETRY, "WorkerShutdown")


def test_large_payloads_are_not_hoarded(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    small = dispatcher.want()
    dispatcher.claimed([claim(n, payload=b"x" * 4_000_000) for n in range(20)], 0.0)
    while sent(dispatcher):
        for seq in list(dispatcher.executors[1].outstanding):
            dispatcher.results(1, [returned(seq, ran=0.00002)], 0.0)

    assert small > 100
    assert 1 <= dispatcher.want() < 20


def test_a_garbled_error_is_a_crash_and_loses_nothing(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1)], 0.0)
    dispatcher.assign(0.0)
    dispatcher.results(1, [ResultMessage(1, ResultKind.RAISED, 0.0, 0.0, b"\xff")], 0.0)

    [retry] = outcomes(dispatcher)
    assert isinstance(retry, Retry)
    assert retry.charge is Charge.CRASH


def test_a_revoked_job_names_the_child_that_runs_it_and_leaves_the_buffer(dispatcher):
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1), claim(2)], 0.0)
    dispatcher.assign(0.0)

    assert dispatcher.revoke({"job1", "job2"}) == [1]
    assert dispatcher.holding() == [("job1", 101)]


def test_an_orphan_claim_is_handed_back(dispatcher):
    dispatcher.release_orphan("job9", 9)

    assert outcomes(dispatcher) == [Release("job9", 9)]
