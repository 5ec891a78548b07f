"""Soft limits and the interrupt of a shutdown: they reach the job they are meant for, and no other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from taskito.serialization.serializers import DEFAULT
from taskito.worker.ipc.wire import ResultKind, unpack_error
from taskito_core.job import ErrorKind
from tests.worker.child.driver import Child

WaitUntil = Callable[..., None]


@pytest.mark.parametrize("where", ["sleep", "recv", "lock", "queue", "subprocess", "regex", "python"])
def test_a_soft_limit_breaks_into(any_child: Child, where: str) -> None:
    waited = any_child.value("soft", where)

    assert 0.15 < waited < 15, "long before the 30 s that it would have waited"


def test_an_uncaught_soft_limit_is_a_timeout_that_except_exception_cannot_swallow(child: Child) -> None:
    result = child.run("soft_uncaught")

    error, retryable = unpack_error(result.body)
    assert result.kind is ResultKind.TIMED_OUT
    assert (error.kind, error.type, retryable) == (ErrorKind.TIMEOUT, "SoftTimeoutError", True)
    assert error.traceback is not None
    last_frame = "\n".join(error.traceback.splitlines()[-3:])  # 3.13 underlines the call in a line of its own
    assert "time.sleep(30)" in last_frame, "it is where the task was"


def test_a_swallowed_soft_limit_comes_again_each_second(child: Child) -> None:
    first, second, third = child.value("soft_stubborn", 3)

    assert 0.9 < second - first < 15
    assert 0.9 < third - second < 15


def test_a_limit_that_passes_around_the_end_of_a_job_hits_that_job_or_none(child: Child) -> None:
    # The limit is 4 ms; sleeps around it end in either way. Between them runs a job without a limit.
    jobs = []
    for n in range(300):
        jobs += [child.job("soft_quick", 0.0035 + n % 10 * 0.0001), child.job("nap", 0.0005)]
    for at in range(0, len(jobs), 60):
        child.send(*jobs[at : at + 60])
    results = [child.result(job.seq) for job in jobs]

    assert {result.kind for result in results[::2]} <= {ResultKind.RETURNED, ResultKind.TIMED_OUT}
    assert {result.kind for result in results[1::2]} == {ResultKind.RETURNED}
    assert child.value("add", 1, 1) == 2


@pytest.mark.parametrize("where", ["sleep", "blocking", "gather", "timeout", "group", "blocking child"])
def test_a_soft_limit_breaks_into_a_coroutine(child: Child, where: str) -> None:
    result = child.run("async_soft", where)

    if where in ("group", "blocking child"):
        # A task group wraps it up, and what blocks in another task is interrupted there: both may end so.
        assert result.kind in (ResultKind.TIMED_OUT, ResultKind.RETURNED)
    else:
        assert result.kind is ResultKind.RETURNED, result
        assert DEFAULT.loads(result.body) == "cleaned up"
    assert child.value("async_add", 1, 2) == 3, "the event loop is fit for the next job"


@pytest.mark.parametrize("task", ["stubborn_nap", "async_wait"])
def test_the_shutdown_interrupt_ends_the_run_it_names(
    any_child: Child, task: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    child, entered = any_child, tmp_path / "entered"
    [seq] = child.send(child.job(task, str(entered)))
    wait_until(entered.exists)

    child.table.set_interrupt(child.slot, seq)
    child.signal(signal.SIGUSR2)

    result = child.result(seq)
    assert (result.kind, result.body) == (ResultKind.INTERRUPTED, b"")
    assert child.value("add", 1, 1) == 2


def test_an_interrupt_for_another_run_is_ignored(child: Child, tmp_path: Path, wait_until: WaitUntil) -> None:
    opened, entered = tmp_path / "opened", tmp_path / "entered"
    child.value("nothing")
    [seq] = child.send(child.job("gate", str(opened), str(entered)))
    wait_until(entered.exists)

    child.table.set_interrupt(child.slot, seq - 1)
    child.signal(signal.SIGUSR2)
    opened.touch()

    assert child.result(seq).kind is ResultKind.RETURNED


def test_interrupts_never_hit_a_job_they_do_not_name(child: Child) -> None:
    # Every third job is named, at whatever moment; the others must all return.
    named: set[int] = set()
    for start in range(0, 300, 20):
        child.send(*(child.job("nap", 0.0005) for _ in range(20)))
        for _ in range(20):
            seq = child.table.running_seq(child.slot)
            if seq and seq % 3 == 0:
                named.add(seq)
                child.table.set_interrupt(child.slot, seq)
                child.signal(signal.SIGUSR2)
        for seq in range(start + 1, start + 21):
            child.result(seq)

    interrupted = {r.seq for r in child.results.values() if r.kind is ResultKind.INTERRUPTED}
    assert interrupted <= named
    assert {r.kind for r in child.results.values() if r.seq not in named} == {ResultKind.RETURNED}


def test_a_tasks_own_alarm_works_without_a_soft_limit(child: Child) -> None:
    assert child.value("own_alarm") == "my own alarm"
    assert 0.15 < child.value("soft", "sleep") < 15, "and the next soft limit stands"


def test_an_alarm_left_behind_does_not_ring_in_the_next_job(child: Child) -> None:
    child.value("leave_alarm")

    assert child.value("nap", 0.3) == "slept"


def test_signals_a_task_changed_are_put_back(child: Child, tmp_path: Path, wait_until: WaitUntil) -> None:
    child.value("change_signals")

    entered = tmp_path / "entered"
    [seq] = child.send(child.job("stubborn_nap", str(entered)))
    wait_until(entered.exists)
    child.table.set_interrupt(child.slot, seq)
    child.signal(signal.SIGUSR2)

    assert child.result(seq).kind is ResultKind.INTERRUPTED


def test_sigint_and_sighup_mean_nothing_to_a_child(any_child: Child) -> None:
    for signum in (signal.SIGINT, signal.SIGHUP):
        os.kill(any_child.pid, signum)

    assert any_child.value("add", 1, 1) == 2


def test_sigquit_ends_a_child(child: Child) -> None:
    child.signal(signal.SIGQUIT)

    assert child.wait_for_death() == -signal.SIGQUIT
