"""Which attempts count, for how long they ran and waited, and what a child says of its memory."""

from __future__ import annotations

import pytest

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import Exit
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.wire import ResultKind, ResultMessage, pack_error, pack_result, unpack_results
from taskito_core.job import Claim, ErrorInfo, ErrorKind
from taskito_core.metrics import Tally
from taskito_core.retry import RetryPolicy

KILLED = ErrorInfo(ErrorKind.CRASH, "SIGKILL", "the process running the job was killed by SIGKILL")
MIB = 1024 * 1024


@pytest.fixture
def dispatcher() -> Dispatcher:
    dispatcher = Dispatcher({"work": TaskPolicy("work", "default", RetryPolicy(), 5.0)}, lambda: 0.0)
    dispatcher.executors.open(1, 0.0)
    return dispatcher


def begin(dispatcher: Dispatcher, due_at: int = 10_000, task: str = "work") -> int:
    """A job claimed at 10.0 by the store's clock, which is 100.0 here, and given to the executor; its seq."""
    claim = Claim("job", 7, task, "default", b"", 0, 0, 0, None, None, None, 10_000, due_at)
    dispatcher.claimed([claim], 100.0)
    [(_, [entry])] = dispatcher.assign(100.0)
    return entry.seq


def ended(seq: int, kind: ResultKind = ResultKind.RETURNED, **fields: float) -> ResultMessage:
    body = b"" if kind is not ResultKind.RAISED else pack_error(KILLED, retryable=True)
    memory = int(fields.get("peak_memory", 0))
    return ResultMessage(seq, kind, fields.get("started", 100.0), fields.get("ran", 0.25), body, memory)


def tallied(dispatcher: Dispatcher) -> list[Tally]:
    return dispatcher.tallies.take()


def test_an_attempt_that_returned_counts_with_its_time_and_its_memory(dispatcher: Dispatcher) -> None:
    seq = begin(dispatcher)

    dispatcher.results(1, [ended(seq, ran=0.25, peak_memory=50 * MIB)], 101.0)

    [tally] = tallied(dispatcher)
    assert (tally.task_name, tally.queue) == ("work", "default")
    assert (tally.succeeded, tally.failed, tally.total_run, tally.peak_memory) == (1, 0, 0.25, 50 * MIB)


def test_an_attempt_that_raised_counts_as_failed(dispatcher: Dispatcher) -> None:
    seq = begin(dispatcher)

    dispatcher.results(1, [ended(seq, ResultKind.RAISED)], 101.0)

    [tally] = tallied(dispatcher)
    assert (tally.succeeded, tally.failed) == (0, 1)


@pytest.mark.parametrize(("due_at", "waited"), [(10_000, 0.5), (7_000, 3.5), (20_000, 0.0)])
def test_the_wait_is_from_due_to_the_real_start(dispatcher: Dispatcher, due_at: int, waited: float) -> None:
    seq = begin(dispatcher, due_at)

    # It lay half a second in the worker and the child before it began.
    dispatcher.results(1, [ended(seq, started=100.5)], 101.0)

    [tally] = tallied(dispatcher)
    assert tally.total_wait == waited


@pytest.mark.parametrize("kind", [ResultKind.INTERRUPTED, ResultKind.UNKNOWN_TASK])
def test_a_job_that_goes_back_is_no_attempt(dispatcher: Dispatcher, kind: ResultKind) -> None:
    seq = begin(dispatcher)
    dispatcher.drain()

    dispatcher.results(1, [ended(seq, kind)], 101.0)

    assert tallied(dispatcher) == []


@pytest.mark.parametrize("timed_out", [False, True])
def test_an_attempt_that_died_with_its_process_ran_until_then(
    dispatcher: Dispatcher, timed_out: bool
) -> None:
    seq = begin(dispatcher, due_at=9_000)

    death = Exit(KILLED, {seq: 100.5}, 0, timed_out=seq if timed_out else 0)
    dispatcher.lose_executor(1, death, 103.0)

    [tally] = tallied(dispatcher)
    assert (tally.failed, tally.total_run, tally.total_wait, tally.peak_memory) == (1, 2.5, 1.5, 0)


@pytest.mark.parametrize("death", [Exit(KILLED, {1: 100.0}, 0, ours=True), Exit(KILLED, {}, 1)])
def test_an_attempt_broken_off_by_us_or_whose_result_was_lost_does_not_count(
    dispatcher: Dispatcher, death: Exit
) -> None:
    assert begin(dispatcher) == 1

    dispatcher.lose_executor(1, death, 101.0)

    assert tallied(dispatcher) == []


def test_memory_travels_with_the_result() -> None:
    result = ended(3, peak_memory=2**42)

    assert unpack_results(pack_result(result)) == [result]
