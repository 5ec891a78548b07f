"""The handle of a job: what it says while the job waits, and how it ends."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskito import (
    ConfigError,
    JobNotFoundError,
    JobResult,
    JobStatus,
    MaxRetriesExceededError,
    PickleSerializer,
    Queue,
    SerializationError,
    TaskFailedError,
    TaskTimeoutError,
    current_job,
)
from taskito_core.job import DeadReason, ErrorKind, Job
from taskito_testing import claim, dead, error_info, make_worker

Work = Callable[..., Any]


class Boom(Exception):
    pass


def test_a_result_comes_back_with_its_type(queue: Queue, work: Work) -> None:
    @queue.task
    def pair(a: int, b: set[int]) -> tuple[int, set[int]]:
        return a, b

    job = pair.delay(1, {2})
    assert str(job.status) == "pending"
    work()

    assert job.result(timeout=0) == (1, {2})
    assert str(job.status) == "complete"
    assert (job.error, job.errors) == (None, [])


def test_a_task_that_returns_nothing_gives_none(queue: Queue, work: Work) -> None:
    job = queue.task(lambda: None).delay()
    work()

    assert job.result(0) is None


def test_coroutine_functions_run_and_their_result_is_the_awaited_value(queue: Queue, work: Work) -> None:
    @queue.task
    async def double(x: int) -> int:
        return 2 * x

    job = double.delay(4)
    work()

    assert job.result(0) == 8


def test_waiting_ends_when_the_job_does(queue: Queue, work: Work) -> None:
    job = queue.task(lambda: "done").delay()
    started, got = threading.Event(), []

    def wait() -> None:
        started.set()
        got.append((job.result(timeout=60), time.monotonic()))

    waiter = threading.Thread(target=wait)
    waiter.start()
    started.wait()
    work()
    ended = time.monotonic()
    waiter.join(30)

    [(value, at)] = got
    assert value == "done"
    assert at - ended < 4  # far below the slow look that stands behind the event


def test_time_that_is_up_is_the_builtin_error_and_changes_nothing(queue: Queue) -> None:
    job = queue.task(lambda: 1).delay()

    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError, match="is still pending after"):
            job.result(timeout)
    assert job.status is JobStatus.PENDING


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
def test_a_timeout_that_makes_no_sense_is_refused(tmp_path: Path, timeout: Any) -> None:
    job: JobResult[Any] = JobResult(Queue(tmp_path / "never.db"), "x")

    with pytest.raises(ConfigError, match="timeout must be"):
        job.result(timeout)


def test_a_job_that_raised_says_what_and_where(queue: Queue, work: Work) -> None:
    @queue.task(dont_retry_on=Boom)
    def explode() -> None:
        raise Boom("the boiler\nof it")

    job = explode.delay()
    work()

    with pytest.raises(TaskFailedError, match=r"failed: Boom: the boiler") as caught:
        job.result()
    assert caught.value.type_name == "Boom"
    assert "in explode" in (caught.value.remote_traceback or "")
    assert caught.value.__notes__[0].startswith("In the worker:\nTraceback")
    assert job.status is JobStatus.DEAD
    assert job.error == "Boom: the boiler"
    [error] = job.errors
    assert (error.kind, error.type, error.attempt) == (ErrorKind.RAISED, "Boom", 1)


def test_used_up_retries_are_told_apart(queue: Queue, work: Work, wait_until: Any) -> None:
    @queue.task(max_retries=2, retry_backoff=0)
    def explode() -> None:
        raise Boom

    job = explode.delay()
    wait_until(lambda: work() and job.status is JobStatus.DEAD)

    with pytest.raises(MaxRetriesExceededError, match="failed after 3 attempts: Boom"):
        job.result()
    assert [error.attempt for error in queue.job_errors(job.id)] == [1, 2, 3]


def test_an_error_that_is_not_retried_is_no_matter_of_retries(queue: Queue, work: Work) -> None:
    @queue.task(max_retries=5, dont_retry_on=Boom)
    def explode() -> None:
        raise Boom

    job = explode.delay()
    work()

    with pytest.raises(TaskFailedError) as caught:
        job.result()
    assert type(caught.value) is TaskFailedError


@pytest.mark.parametrize(
    ("kind", "reason", "error"),
    [
        (ErrorKind.TIMEOUT, DeadReason.RETRIES, TaskTimeoutError),
        (ErrorKind.CRASH, DeadReason.CRASHES, TaskFailedError),
        (ErrorKind.RAISED, DeadReason.RETRIES, MaxRetriesExceededError),
        # No retries were left either, but that is not why it died.
        (ErrorKind.RAISED, DeadReason.NOT_RETRYABLE, TaskFailedError),
    ],
)
def test_the_last_error_and_the_letter_decide_how_a_dead_job_is_told(
    queue: Queue, kind: ErrorKind, reason: DeadReason, error: Any
) -> None:
    worker = make_worker()
    queue.storage.register(worker)
    job = queue.enqueue("job")
    [claimed] = claim(queue.storage, worker.id)
    info = error_info(kind=kind, type="SIGKILL", message="it had to go")
    queue.storage.exchange(worker.id, [dead(claimed, reason, error=info)], None)

    with pytest.raises(error, match="it had to go") as caught:
        job.result(0)
    assert type(caught.value) is error


def test_a_result_that_cannot_be_stored_fails_the_job(queue: Queue, work: Work) -> None:
    job = queue.task(lambda: [object]).delay()
    work()

    with pytest.raises(
        TaskFailedError, match=r"SerializationError: cannot serialise .*: type type has no form"
    ):
        job.result()


def test_an_unknown_job_is_not_found_in_every_way(queue: Queue) -> None:
    job = queue.task(lambda: 1).delay()
    ghost = type(job)(queue, "no-such-job")

    assert queue.get_job("no-such-job") is None
    for ask in (ghost.result, ghost.refresh, ghost.to_dict, lambda: ghost.status, lambda: ghost.metadata):
        with pytest.raises(JobNotFoundError, match="there is no job 'no-such-job'"):
            ask()
        with pytest.raises(KeyError):
            ask()


def test_a_task_with_its_own_serializer_is_read_with_it(queue: Queue, work: Work) -> None:
    task = queue.task(serializer=PickleSerializer(key="k"))(lambda x: x + 1j)

    job = task.delay(1j)
    work()

    assert job.result(0) == 2j


def test_a_changed_payload_fails_the_job_before_anything_is_loaded(queue: Queue, work: Work) -> None:
    task = queue.task(name="t", serializer=PickleSerializer(key="k"))(lambda: 1)
    other = Queue(db_url=queue.settings.db_url, serializer=PickleSerializer(key="another"))
    with other:
        job = other.enqueue("t")
    work()

    with pytest.raises(TaskFailedError, match="signature does not match"):
        queue.get_job(job.id).result(0)  # type: ignore[union-attr]
    assert task.name == "t"


def test_a_result_written_by_another_serializer_is_a_serialization_error(queue: Queue, work: Work) -> None:
    job = queue.task(serializer=PickleSerializer(key="k"))(lambda: 1).delay()
    work()

    with Queue(db_url=queue.settings.db_url) as stranger, pytest.raises(SerializationError):
        stranger.get_job(job.id).result(0)  # type: ignore[union-attr]


def test_to_dict_is_ready_for_json(queue: Queue, work: Work) -> None:
    job = queue.task(lambda: 1).using(metadata={"a": 1}, tags=["t"]).delay()
    work()

    shown = json.loads(json.dumps(job.to_dict()))

    assert (shown["id"], shown["status"], shown["metadata"], shown["tags"]) == (
        job.id,
        "complete",
        {"a": 1},
        ["t"],
    )
    assert shown["created_at"] <= shown["completed_at"]
    assert "payload" not in shown


def test_to_dict_has_every_column_that_a_person_can_read(queue: Queue) -> None:
    shown = queue.enqueue("t").to_dict()

    fields = {field.name for field in dataclasses.fields(Job)} - {
        "payload",
        "result",
        "token",
        "cancel_asked",
    }
    assert shown.keys() == fields - {"gate"} | {"waits_behind", "args", "kwargs", "result"}


def test_to_dict_shows_arguments_and_the_result(queue: Queue, work: Work) -> None:
    @queue.task
    def login(user: str, password: str, *, at: set[int]) -> dict[str, object]:
        return {"user": user, "token": "abc", "at": at}

    job = login.using(metadata={"api_key": "abc", "from": "web"}).delay("ann", "hunter2", at={7})
    before = job.to_dict()
    work()
    after = job.refresh().to_dict()

    assert (before["args"], before["kwargs"]) == (["ann", "***"], {"at": [7]})
    assert before["result"] is None
    assert after["result"] == {"user": "ann", "token": "***", "at": [7]}
    assert (after["metadata"], job.metadata["api_key"]) == ({"api_key": "***", "from": "web"}, "abc")


def test_to_dict_says_of_what_another_app_pickled_that_it_cannot_be_read(queue: Queue) -> None:
    job = queue.task(serializer=PickleSerializer(key="k"))(lambda: 1).delay()

    with Queue(db_url=queue.settings.db_url) as stranger:
        found = stranger.get_job(job.id)
        assert found is not None
        shown = found.to_dict()

    assert "cannot be read here" in shown["args"]
    assert "cannot be read here" in shown["kwargs"]


def test_a_replay_leads_back_to_the_job_that_it_repeats(queue: Queue, work: Work) -> None:
    job = queue.task(lambda: 1).delay()
    assert (job.replays, job.replay_of) == ([], None)
    work()

    first, second = job.replay(), job.replay()

    assert job.replays == [first.id, second.id]
    assert (job.replay_of, first.replay_of, first.replays) == (None, job.id, [])


def test_a_finished_job_is_read_only_once(queue: Queue, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    job = queue.task(lambda: 1).delay()
    work()
    assert job.status is JobStatus.COMPLETE

    def refuse(self: object, ids: object) -> None:
        raise AssertionError("it is read again")

    monkeypatch.setattr(type(queue.storage), "get", refuse)

    assert (job.result(), job.status, job.metadata) == (1, JobStatus.COMPLETE, {})


def test_handles_of_one_job_are_equal(queue: Queue) -> None:
    job = queue.task(lambda: 1).delay()

    assert {job, queue.get_job(job.id)} == {job}
    assert job != job.id


def test_a_task_knows_itself_and_may_enqueue(queue: Queue, work: Work) -> None:
    @queue.task(name="outer", queue="q")
    def outer() -> list[Any]:
        inner = queue.enqueue("inner.task")
        return [current_job.id, current_job.task_name, current_job.queue_name, current_job.metadata, inner.id]

    job = outer.using(metadata={"k": "v"}).delay()
    work()

    job_id, task_name, queue_name, metadata, inner_id = job.result(0)
    assert (job_id, task_name, queue_name, metadata) == (job.id, "outer", "q", {"k": "v"})
    inner = queue.get_job(inner_id)
    assert inner is not None
    assert inner.status is JobStatus.PENDING
