"""A job's way through a child: what goes in, what comes out, and what a failure looks like."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from taskito.serialization.serializers import DEFAULT
from taskito.worker.ipc.wire import ResultKind, pack_jobs
from taskito_core.job import ErrorKind
from tests.worker.child.driver import Child


def test_a_job_comes_back_with_its_value(any_child: Child) -> None:
    before = time.monotonic()

    result = any_child.run("add", 40, 2)

    assert result.kind is ResultKind.RETURNED
    assert DEFAULT.loads(result.body) == 42
    assert before <= result.started <= time.monotonic()
    assert 0 <= result.ran < 30


def test_a_frame_of_many_jobs_is_run_in_order(child: Child) -> None:
    jobs = [child.job("add", n, 0) for n in range(500)]

    child.send(*jobs)

    assert [DEFAULT.loads(child.result(job.seq).body) for job in jobs] == list(range(500))
    assert [child.results[job.seq].started for job in jobs] == sorted(
        r.started for r in child.results.values()
    )


def test_the_task_knows_its_job(child: Child) -> None:
    seen = child.value("about_me", retry_count=2, metadata='{"tenant": 7}')

    assert seen == {"id": "job-1", "task": "about_me", "retries": 2, "metadata": {"tenant": 7}}


def test_jobs_do_not_see_each_others_context_variables(child: Child) -> None:
    assert [child.value("mark") for _ in range(3)] == ["clean"] * 3


def test_an_unknown_task_is_no_failure(child: Child) -> None:
    result = child.run("of another app")

    assert (result.kind, result.body) == (ResultKind.UNKNOWN_TASK, b"")


def test_an_exception_is_described_without_our_frames(child: Child) -> None:
    error, retryable = child.error("fail", "plain")

    assert (error.kind, error.type, error.message, retryable) == (
        ErrorKind.RAISED,
        "RuntimeError",
        "as asked",
        True,
    )
    lines = error.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "jobs.py" in lines[1], "the first frame is the task's own"
    assert "_raise_inside" in error.traceback


def test_the_app_decides_what_is_retryable(child: Child) -> None:
    error, retryable = child.error("fail", "key")

    assert (error.type, retryable) == ("KeyError", False)


@pytest.mark.parametrize(("kind", "type_name"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")])
def test_leaving_the_interpreter_fails_the_job_and_not_the_child(
    child: Child, kind: str, type_name: str
) -> None:
    error, retryable = child.error("fail", kind)

    assert (error.type, retryable) == (type_name, True)
    assert child.value("add", 1, 1) == 2


def test_the_code_of_sys_exit_is_in_the_message(child: Child) -> None:
    assert child.error("fail", "exit")[0].summary == "SystemExit: 1"


def test_error_text_is_safe_for_every_store(child: Child) -> None:
    error, _ = child.error("fail", "text")

    assert "\0" not in error.message + error.traceback
    error.message.encode("utf-8")


def test_an_exception_that_cannot_be_shown_is_described_all_the_same(child: Child) -> None:
    error, _ = child.error("fail", "strange")

    assert error.type == "_Strange"
    assert "SystemExit" in error.message


def test_endless_recursion_is_a_failed_attempt(child: Child) -> None:
    error, _ = child.error("fail", "deep")

    assert error.type == "RecursionError"
    assert len(error.traceback) < 70_000


def test_a_value_that_cannot_be_serialised_is_rejected_with_its_path(child: Child) -> None:
    error, retryable = child.error("give", "object")

    assert (error.kind, error.type, retryable) == (ErrorKind.REJECTED, "SerializationError", False)
    assert "deep" in error.message


def test_a_result_over_max_payload_is_rejected(child: Child) -> None:
    error, retryable = child.error("give", "big")

    assert (error.kind, error.type, retryable) == (ErrorKind.REJECTED, "PayloadTooLarge", False)
    assert "100000" in error.message


@pytest.mark.parametrize("payload", [b"", b"\xff\xfe", b"[1, 2", b'{"a": 1}', b"[[1]]", b"[1, 2]"])
def test_a_payload_that_cannot_be_read_is_left_to_others_also_if_the_store_is_away(
    child: Child, payload: bytes
) -> None:
    result = child.run("add", payload=payload)

    assert (result.kind, result.body) == (ResultKind.UNREADABLE, b"")
    assert child.value("add", 1, 2) == 3


def test_arguments_that_its_function_does_not_take_are_left_to_others(child: Child) -> None:
    result = child.run("add", 1, 2, 3)

    assert (result.kind, result.body) == (ResultKind.UNREADABLE, b"")
    # What the function itself raises, however alike, is its own.
    assert child.error("wrong_call", 1)[0].type == "TypeError"


def test_async_tasks_run_on_one_loop_and_know_their_job(any_child: Child) -> None:
    assert any_child.value("async_add", 1, 2) == 3
    assert any_child.value("async_about") == "job-2"
    assert any_child.value("async_add", 3, 4) == 7


def test_what_an_async_task_leaves_in_the_loop_is_gone_before_the_next(child: Child) -> None:
    assert [child.value("async_litter") for _ in range(3)] == [0, 0, 0]


def test_the_slot_table_names_the_running_job(child: Child, tmp_path: Path) -> None:
    opened, entered = tmp_path / "opened", tmp_path / "entered"
    before = time.monotonic()
    [seq] = child.send(child.job("gate", str(opened), str(entered)))
    while not entered.exists():
        assert time.monotonic() < before + 30

    inside = child.table.read(child.slot)
    opened.touch()
    child.result(seq)

    assert [*inside.running] == [seq]
    assert before <= inside.running[seq] <= time.monotonic()
    assert child.table.read(child.slot) == ({}, 1)


def test_a_frame_that_arrives_in_pieces_is_put_together(child: Child) -> None:
    message = pack_jobs([child.job("add", 1, 1), child.job("add", 2, 2)])

    for at in range(0, len(message), 7):
        child.data.sock.sendall(message[at : at + 7])

    assert [DEFAULT.loads(child.result(seq).body) for seq in (1, 2)] == [2, 4]


def test_a_payload_of_megabytes_comes_through(child: Child) -> None:
    text = "x" * 8_000_000
    child.data.sock.settimeout(30)

    [seq] = child.send(child.job("add", text, "y"))

    assert child.result(seq).kind is ResultKind.RAISED, (
        "the result is too large, which shows that it was made"
    )
