"""What a coroutine leaves running in the event loop: it ends after the job, which it costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito.worker.ipc.wire import MessageType, ResultKind
from tests.worker.child.driver import Child, Output, Zygote

#: Seconds within which a job has ended, whatever it has left. To end that may take three more.
AT_ONCE = 1.0


@pytest.fixture
def child(noisy_zygote: Zygote, zygote: Zygote) -> Iterator[Child]:
    child = noisy_zygote.fork()
    child.boot()
    yield child
    child.close()


@pytest.mark.parametrize(
    "what",
    ["deaf", "deaf_and_busy", "deaf_to_all", "slow_to_end", "blocks_at_the_end", "exits_at_the_end"],
)
def test_what_does_not_let_itself_be_cancelled_costs_no_job_and_is_named(
    child: Child, output: Output, wait_until: WaitUntil, what: str
) -> None:
    result = child.run("leave_coroutine", what)

    assert (result.kind, result.ran < AT_ONCE) == (ResultKind.RETURNED, True)
    assert not child.table.read(child.slot).running, "its time is over before what it left is ended"
    assert child.value("ticks") == {}
    assert child.value("async_litter") == 0, "nothing of it is left in the loop"
    wait_until(lambda: f"left ({what})" in output.read(), message=output.read())
    assert "task leave_coroutine left coroutines running" in output.text


def test_what_is_left_by_a_job_that_fails_is_ended_too(
    child: Child, output: Output, wait_until: WaitUntil
) -> None:
    error, _ = child.error("fail_and_leave_coroutine", "deaf")

    assert error.type == "ValueError"
    assert child.value("async_litter") == 0
    wait_until(lambda: "task fail_and_leave_coroutine left" in output.read())


def test_what_is_started_while_the_rest_is_ended_is_ended_with_it(
    child: Child, output: Output, wait_until: WaitUntil
) -> None:
    child.value("leave_coroutine", "starts_another")

    assert child.value("async_litter") == 0
    wait_until(lambda: "another (deaf), left (starts_another)" in output.read(), message=output.read())


def test_a_coroutine_that_is_cancelled_has_time_to_clean_up(
    child: Child, tmp_path: Path, wait_until: WaitUntil
) -> None:
    child.value("leave_coroutine", "cleans_up", str(tmp_path / "clean"))

    wait_until((tmp_path / "clean").exists)


def test_what_the_job_cancelled_itself_is_not_talked_of(child: Child, output: Output) -> None:
    output.read()
    already = len(output.text)
    child.value("leave_cancelled")

    assert child.value("async_litter") == 0
    child.value("leave_coroutine", "tick", "x")
    child.value("nothing")
    assert "leave_cancelled" not in output.read()[already:]


def test_coroutines_that_are_kept_live_on_with_all_they_start(child: Child, output: Output) -> None:
    child.value("keep_coroutine")
    loop = child.value("loop_of")

    for _ in range(2):
        child.value("leave_coroutine", "deaf")
        assert set(child.value("ticks")) == {"kept", "kept child"}
    assert child.value("loop_of") == loop
    assert "not kept (tick)" in output.read()
    assert "left: kept" not in output.text


@pytest.mark.parametrize("what", ["deaf", "deaf_and_busy", "deaf_to_all", "blocks_a_thread"])
def test_a_child_ends_whatever_it_has_kept(child: Child, what: str) -> None:
    child.value("keep", what)

    child.tell(MessageType.DRAIN)

    assert child.wait_for_death() == 0
