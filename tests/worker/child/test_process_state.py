"""What one job leaves behind for the next in the same child: nothing that the next would fail for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito.worker.ipc.wire import ResultKind
from tests.worker.child.driver import Child, Output, Zygote

ALL_WELL = {"exit code": 7, "event loop": "turned", "blocked": 0, "directory": True, "input": ""}
#: What the log calls it; None: nothing is left, as nobody can do it.
WAYS = {
    "stdout closed": None,
    "stdout None": "another sys.stdout",
    "stdout replaced": "another sys.stdout",
    "stdout wrapped": "another sys.stdout",
    "stderr None": "another sys.stderr",
    "stdin replaced": "another sys.stdin",
    "descriptor 0 closed": "descriptor 0 closed",
    "descriptor 1 closed": "descriptor 1 closed",
    "descriptor 1 redirected": "descriptor 1 redirected",
    "descriptor 2 closed": "descriptor 2 closed",
    "SIGCHLD ignored": "an ignored SIGCHLD",
    "SIGPIPE not ignored": "a handler of SIGPIPE",
    "SIGTERM ignored": "a handler of SIGTERM",
    "SIGUSR1 ignored": "no stack traces",
    "signals of an event loop": "a handler of SIGTERM",
    "a blocked mask": "a changed signal mask",
    "a policy": "an event loop policy",
    "a closed event loop": None,
    "no stack traces": "no stack traces",
    "loggers disabled": "disabled loggers",
    "logging disabled": "disabled loggers",
    "a directory that is gone": "a working directory that is gone",
}


@pytest.fixture
def child(noisy_zygote: Zygote, zygote: Zygote) -> Iterator[Child]:
    """Its descendants are reaped after it, by the other fixture."""
    child = noisy_zygote.fork()
    child.boot()
    yield child
    child.close()


@pytest.mark.parametrize("task", ["leave", "fail_and_leave"])
@pytest.mark.parametrize("way", WAYS)
def test_the_next_job_finds_all_well_and_the_log_names_the_task(
    child: Child, output: Output, wait_until: WaitUntil, way: str, task: str
) -> None:
    child.run(task, way)

    assert child.value("find") == ALL_WELL
    for line in ("printed by the next job", "said by the next job", "written by its program"):
        wait_until(lambda line=line: line in output.read())
    left = WAYS[way]
    if left is not None:
        assert f"task {task} left" in output.text
        assert left in output.text
    else:
        assert "left" not in output.text


@pytest.mark.parametrize("way", ["a blocked mask", "signals of an event loop", "SIGTERM ignored"])
def test_the_next_job_has_its_soft_limit_and_the_child_heeds_signals(child: Child, way: str) -> None:
    child.value("leave", way)

    assert 0.1 < child.value("soft", "sleep") < 20
    child.signal(signal.SIGINT)
    assert child.value("add", 1, 1) == 2
    child.signal(signal.SIGTERM)
    assert child.wait_for_death() == 0


def test_handlers_in_the_event_loop_of_coroutines_stay_with_the_job(child: Child) -> None:
    child.value("leave_signal_handlers")

    assert child.value("async_add", 1, 1) == 2
    assert 0.1 < child.value("soft", "sleep") < 20
    child.signal(signal.SIGTERM)
    assert child.wait_for_death() == 0


@pytest.mark.parametrize("way", ["SIGUSR1 ignored", "no stack traces"])
def test_the_stack_of_the_next_job_can_be_had(
    child: Child, tmp_path: Path, wait_until: WaitUntil, way: str
) -> None:
    child.value("leave", way)
    child.send(child.job("stubborn_nap", str(tmp_path / "entered")))
    wait_until((tmp_path / "entered").exists)

    child.signal(signal.SIGUSR1)

    wait_until(lambda: "in stubborn_nap" in child.trace_text())


@pytest.mark.parametrize("way", ["stdout None", "descriptor 1 closed", "a blocked mask", "a policy"])
def test_a_quick_task_that_did_well_before_is_found_too(child: Child, output: Output, way: str) -> None:
    for _ in range(200):
        child.value("leave_quietly_later", None)
    child.value("leave_quietly_later", way)

    assert child.value("find") == ALL_WELL
    assert "task leave_quietly_later left" in output.read()


def test_a_process_forked_by_a_task_holds_no_copy_of_the_outputs(child: Child, wait_until: WaitUntil) -> None:
    grandchild = child.value("leave_grandchild")

    def outputs() -> int:
        links = []
        for fd in os.listdir(f"/proc/{grandchild}/fd"):
            with suppress(FileNotFoundError):  # closed meanwhile
                links.append(os.readlink(f"/proc/{grandchild}/fd/{fd}"))
        return len([link for link in links if link.startswith("pipe:")])

    wait_until(lambda: outputs() == 2)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait_for_death()
    os.waitpid(grandchild, 0)  # It has become ours.


def test_what_the_app_sets_up_is_kept(child: Child) -> None:
    result = child.run("change_signals")

    assert result.kind is ResultKind.RETURNED
    assert child.value("soft", "sleep") > 0.1
