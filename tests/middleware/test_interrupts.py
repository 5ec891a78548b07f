"""Limits reach into hooks: what takes too long is broken off, whoever it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito.running_job.job_context import JobContext
from taskito.worker.ipc import platform
from taskito.worker.ipc.failure_events import FailureEvent, pack_failure_event
from taskito.worker.ipc.wire import MessageType, ResultKind, pack
from taskito_core import AttemptError, ErrorKind
from tests.worker.child.driver import Spawned

pytestmark = pytest.mark.skipif(not platform.can_use_zygote(), reason="the driver needs Linux: /proc")


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Spawned]:
    """A booted child with the app of the hooks."""
    journal = tmp_path / "journal"
    journal.touch()
    child = Spawned("tests.middleware.hookapp:queue", env={"JOURNAL": str(journal)})
    try:
        child.boot()
        yield child
    finally:
        child.close()


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "journal").read_text().splitlines()


def test_a_soft_limit_that_passes_before_the_task_fails_the_attempt_and_after_task_hears_of_it(
    child: Spawned, tmp_path: Path
) -> None:
    result = child.run("soft", "never", metadata=json.dumps({"slow": "before"}))

    assert result.kind is ResultKind.TIMED_OUT
    assert lines(tmp_path) == ["after SoftTimeoutError None"]


def test_a_soft_limit_that_passes_after_the_task_ends_the_hook_and_the_result_stands(
    child: Spawned, tmp_path: Path
) -> None:
    value = child.value("soft", "in time", metadata=json.dumps({"slow": "after"}))

    assert value == "in time"
    assert lines(tmp_path) == [], "the hook was broken off"


def end(child: Spawned) -> None:
    child.tell(MessageType.DRAIN)
    child.data.sock.sendall(pack(MessageType.DISMISS))


def failure_event(job_id: str, task: str = "raises", dead: bool = True) -> bytes:
    error = AttemptError(job_id, 7, 2, ErrorKind.RAISED, "ValueError", "no", None, "w1", 1234)
    return pack_failure_event(
        FailureEvent(JobContext(job_id, task, "default", 1, 7, {"who": "you"}), error, None if dead else 2)
    )


def test_failure_events_are_told_between_jobs_in_their_order_and_do_not_count_as_jobs(
    child: Spawned, tmp_path: Path
) -> None:
    child.data.sock.sendall(
        failure_event("j1", dead=False) + failure_event("j2") + failure_event("j3", task="gone since")
    )
    child.value("plain")
    end(child)
    code = child.wait_for_death()

    pid = child.pid
    told = [line for line in lines(tmp_path) if line.split()[0] in ("failure", "retry", "dead")]
    assert code == 0
    assert told == [
        f"failure raises ValueError 2 you j1 {pid}",
        f"retry raises ValueError 2 1 j1 {pid}",
        f"failure raises ValueError 2 you j2 {pid}",
        f"dead raises ValueError 2 raised j2 {pid}",
    ]


def test_a_child_that_drains_stays_until_nothing_more_will_be_to_tell(child: Spawned, tmp_path: Path) -> None:
    child.tell(MessageType.DRAIN)
    child.data.expect(MessageType.RETURNED)
    for number in range(50):
        child.data.sock.sendall(failure_event(f"j{number}"))
    end(child)
    child.wait_for_death()

    assert [line.split()[5] for line in lines(tmp_path) if line.startswith("dead")] == [
        f"j{number}" for number in range(50)
    ]


def test_a_process_that_a_hook_forked_does_not_go_on_as_the_child(child: Spawned, tmp_path: Path) -> None:
    child.data.sock.sendall(failure_event("j1", task="forks"))
    value = child.value("plain")
    end(child)
    child.wait_for_death()

    assert value == child.pid
    assert len([line for line in lines(tmp_path) if line.startswith("start")]) == 1
