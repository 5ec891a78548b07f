"""Plugins in a child: told of its start and its end, and wrapped around every job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskito.serialization.serializers import DEFAULT
from taskito.worker.ipc.argv import EXIT_BOOT_FAILED
from taskito.worker.ipc.wire import Company, MessageType, ResultKind
from tests.worker.child.driver import Spawned

APP = "tests.worker.child.plugged:queue"


def test_hooks_surround_the_child_and_each_job(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    child = Spawned(APP, env={"PLUGGED_JOURNAL": str(journal)})
    try:
        child.boot()
        masked = child.value("secret")
        error, _ = child.error("fail")
        child.value("nothing")
        limited = [child.run(task).kind for task in ("slow", "async_slow")]
        child.tell(MessageType.DRAIN)
        code = child.wait_for_death()
    finally:
        child.close()

    assert masked == "masked", "a wrapper may change the value"
    assert error.traceback is not None
    assert error.traceback.splitlines()[1].count("plugged.py"), "neither our frames nor the plugin manager's"
    assert limited == [ResultKind.TIMED_OUT] * 2
    assert code == 0
    assert journal.read_text().splitlines() == [
        "started",
        "secret returned",
        "fail ValueError",
        "nothing returned",
        "slow SoftTimeoutError",
        "async_slow SoftTimeoutError",
        "stopping",
    ]


@pytest.mark.parametrize("company", [Company.ALONE, Company.COROUTINES])
def test_hooks_and_middleware_surround_an_async_job_alone_and_beside_others(
    tmp_path: Path, company: Company
) -> None:
    journal = tmp_path / "journal"
    child = Spawned(APP, env={"PLUGGED_JOURNAL": str(journal)})
    try:
        child.boot()
        boxed = child.run("async_boxed", company=company)
        kinds = [child.run(task, company=company).kind for task in ("async_fail", "async_slow")]
    finally:
        child.close()

    assert DEFAULT.loads(boxed.body) == "a value in a box"
    assert kinds == [ResultKind.RAISED, ResultKind.TIMED_OUT]
    assert journal.read_text().splitlines() == [
        "started",
        "async_boxed before",
        "async_boxed after 'a value' NoneType",
        "async_boxed returned",
        "async_fail before",
        "async_fail after None ValueError",
        "async_fail ValueError",
        "async_slow SoftTimeoutError",
    ]


def test_a_hook_that_raises_at_the_start_is_a_failed_boot(tmp_path: Path) -> None:
    child = Spawned(APP, env={"PLUGGED_JOURNAL": str(tmp_path / "journal"), "PLUGGED_FAILS": "1"})
    try:
        child.control.expect(MessageType.HELLO)
        kind, text = json.loads(child.control.expect(MessageType.FAILED))
        code = child.wait_for_death()
    finally:
        child.close()

    assert kind == "traceback"
    assert text.rstrip().endswith("RuntimeError: the licence server is down")
    assert code == EXIT_BOOT_FAILED
