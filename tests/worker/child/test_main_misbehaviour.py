"""What a task does to its process harms nothing but its own job."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskito.serialization.serializers import DEFAULT
from taskito.worker.ipc.argv import EXIT_CHANNEL_BROKEN
from taskito.worker.ipc.wire import ResultKind, WireError
from tests.worker.child.driver import Child, Zygote

WaitUntil = Callable[..., None]


def test_os_exit_is_the_childs_death_under_that_job(any_child: Child) -> None:
    child = any_child
    child.value("nothing")
    [seq] = child.send(child.job("os_exit", 0))

    assert child.wait_for_death() == 0

    child.read_rest()
    record = child.table.read(child.slot)
    assert ([*record.running], record.done) == ([seq], 1)
    assert seq not in child.results


def test_a_segfault_leaves_its_stack_in_the_trace(any_child: Child) -> None:
    child = any_child
    [seq] = child.send(child.job("segfault"))

    assert child.wait_for_death() == -signal.SIGSEGV

    assert [*child.table.read(child.slot).running] == [seq]
    assert "Segmentation fault" in child.trace_text()
    assert "in segfault" in child.trace_text()


def test_the_stack_of_a_child_that_holds_the_gil_can_be_had(
    any_child: Child, tmp_path: Path, wait_until: WaitUntil
) -> None:
    child, entered = any_child, tmp_path / "entered"
    child.send(child.job("hog", str(entered)))
    wait_until(entered.exists)

    child.signal(signal.SIGUSR1)

    wait_until(lambda: "in hog" in child.trace_text())


def test_megabytes_of_output_disturb_nothing(zygote_process: Zygote, tmp_path: Path) -> None:
    # A zygote of its own, whose output somebody has to read.
    zygote = Zygote()
    try:
        zygote.boot()
        child = zygote.fork()
        try:
            child.boot()
            [seq] = child.send(child.job("print_much", 10_000_000))
            output: Any = zygote.program.process.stdout  # buffered, hence read1
            read = 0
            while read < 10_000_000:
                read += len(output.read1(65536))
            assert child.result(seq).kind is ResultKind.RETURNED
            assert child.value("add", 1, 1) == 2
        finally:
            child.close()
    finally:
        zygote.close()


def test_closed_standard_descriptors_disturb_nothing(child: Child) -> None:
    child.value("close_stdio")

    assert child.value("add", 1, 1) == 2
    assert child.error("fail", "plain")[0].type == "RuntimeError"


@pytest.mark.parametrize("task", ["close_all", "overwrite_all"])
def test_breaking_our_sockets_is_the_childs_death_under_that_job(
    child: Child, task: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    child.value("nothing")
    [seq] = child.send(child.job(task, *([str(path)] if task == "overwrite_all" else [])))

    assert child.wait_for_death() == EXIT_CHANNEL_BROKEN

    record = child.table.read(child.slot)
    assert ([*record.running], record.done) == ([seq], 1)
    assert not path.exists() or path.read_bytes() == b"", "nothing of ours is written into what is not ours"


def test_a_child_that_lost_a_descriptor_ends_instead_of_spinning(child: Child) -> None:
    child.send(child.job("close_alarm"))

    assert child.wait_for_death() == EXIT_CHANNEL_BROKEN


def test_garbage_on_our_sockets_is_seen_as_such(child: Child) -> None:
    [seq] = child.send(child.job("write_garbage"))

    with pytest.raises(WireError):
        child.result(seq)


def test_processes_forked_by_a_task_exit_as_they_like(child: Child) -> None:
    assert child.value("fork_and_exit") == 7
    assert child.value("add", 1, 1) == 2


def test_a_fork_that_returns_from_the_task_ends_there(child: Child) -> None:
    forked, code = child.value("fork_and_return")

    assert (forked > 0, code) == (True, 0)
    assert child.table.read(child.slot).done == 1, "only the child counts"
    assert child.value("add", 1, 1) == 2


@pytest.mark.parametrize(("how", "expected"), [("exit", 1), ("plain", 1)])
def test_a_fork_that_raises_from_the_task_ends_there(child: Child, how: str, expected: int) -> None:
    _, code = child.value("fork_and_fail", how)

    assert code == expected
    assert child.value("add", 1, 1) == 2


def test_a_process_forked_by_a_task_is_an_ordinary_one(any_child: Child) -> None:
    seen = any_child.value("fork_and_report")

    assert seen == {
        "term": str(signal.SIG_DFL),
        "int": True,
        "alarm": str(signal.SIG_DFL),
        "faulthandler": False,
        "sockets": [],
        "files": [],
    }


def test_a_grandchild_does_not_hold_the_sockets_and_dies_with_the_group(child: Child) -> None:
    grandchild = child.value("leave_grandchild")
    child.signal(signal.SIGKILL)
    child.wait_for_death()

    assert child.data.read() is None, "the end of the socket is seen although the grandchild lives"
    os.killpg(child.pid, signal.SIGKILL)
    _, status = os.waitpid(grandchild, 0)  # It has become ours.
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_a_multiprocessing_pool_works_and_can_be_terminated(any_child: Child) -> None:
    assert any_child.value("pool") == [1, 2, 3]
    assert any_child.value("add", 1, 1) == 2


def test_programs_started_by_a_task_have_default_signals(any_child: Child) -> None:
    lines = dict(line.split(":\t") for line in any_child.value("run_command").splitlines())

    ignored = int(lines["SigIgn"], 16)
    for signum in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGPIPE,
    ):
        assert not ignored & 1 << (signum - 1), signum
    assert int(lines["SigBlk"], 16) == 0


def test_a_changed_directory_stays_inside_the_child(fork: Callable[[], Child], tmp_path: Path) -> None:
    first, second = fork(), fork()

    first.value("chdir", str(tmp_path))

    assert first.value("add", 1, 1) == second.value("add", 1, 1) == 2


def test_a_killed_child_harms_no_sibling(fork: Callable[[], Child]) -> None:
    victim, sibling = fork(), fork()
    [seq] = victim.send(victim.job("kill_me", int(signal.SIGKILL)))

    assert victim.wait_for_death() == -signal.SIGKILL
    assert [*victim.table.read(victim.slot).running] == [seq]
    assert sibling.value("add", 1, 1) == 2


def test_results_written_before_the_death_can_still_be_read(child: Child) -> None:
    jobs = [child.job("add", 1, 1), child.job("nap", 0.01), child.job("kill_me", int(signal.SIGKILL))]
    child.send(*jobs)
    child.wait_for_death()

    child.read_rest()

    assert DEFAULT.loads(child.results[1].body) == 2
    assert [*child.table.read(child.slot).running] == [3]
