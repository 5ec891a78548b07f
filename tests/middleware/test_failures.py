"""Hooks are told of failed attempts once those are recorded, in a process that lives; and never twice."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito import AttemptError, ErrorKind, JobContext, MaxRetriesExceededError, Queue, TaskitoError
from taskito.client.manifest import manifest_of
from taskito.worker.ipc.app_manifest import AppManifest
from tests.faults.harness import Worker

from .conftest import LONG, Calls, Journal

Start = Callable[[int], Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(procs)``: a worker of ``hookapp`` on a file of SQLite."""
    shutil.copy(Path(__file__).with_name("hookapp.py"), tmp_path)
    workers: list[Worker] = []

    def run(procs: int) -> Worker:
        url = f"sqlite:///{tmp_path / 'jobs.db'}"
        workers.append(Worker(url, tmp_path, "--procs", str(procs), app="hookapp:queue"))
        return workers[-1].start().ready(procs)

    yield run
    for worker in workers:
        worker.kill_everything()


@pytest.fixture
def producer(tmp_path: Path) -> Iterator[Queue]:
    """The same store, seen by a process that does not have the app."""
    with Queue(tmp_path / "jobs.db") as queue:
        yield queue


def told(worker: Worker) -> list[list[str]]:
    """What the hooks wrote, without the process ids."""
    return [line[:-1] for line in worker.lines() if line[0] in ("failure", "retry", "dead")]


def test_hooks_hear_of_each_attempt_that_raised_and_of_the_last_that_it_was_the_last(
    start: Start, producer: Queue, wait_until: WaitUntil
) -> None:
    worker = start(1)

    job = producer.enqueue("raises", metadata={"who": "me"}, max_retries=1)
    wait_until(lambda: len(told(worker)) >= 4, message="four calls")
    wait_until(lambda: job.status.finished)

    assert told(worker) == [
        ["failure", "raises", "ValueError", "1", "me", job.id],
        ["retry", "raises", "ValueError", "1", "0", job.id],
        ["failure", "raises", "ValueError", "2", "me", job.id],
        ["dead", "raises", "ValueError", "2", "raised", job.id],
    ]
    assert [line[-1] for line in worker.lines("dead")] == [str(pid) for pid in worker.job_children()]


def test_hooks_hear_of_attempts_whose_process_is_gone_in_another(
    start: Start, producer: Queue, wait_until: WaitUntil
) -> None:
    worker = start(1)  # So at the moment of the death there is no child that could be told.

    jobs = [producer.enqueue("killed"), producer.enqueue("overruns")]
    wait_until(lambda: len(worker.lines("dead")) == 2, message="both are told")

    assert all(job.status == "dead" for job in jobs)
    calls = [line[:4] for line in told(worker) if jobs[0].id in line]
    assert calls == [
        ["failure", "killed", "SIGKILL", "1"],
        ["retry", "killed", "SIGKILL", "0"],  # A crash is not charged to the retries.
        ["failure", "killed", "SIGKILL", "2"],
        ["retry", "killed", "SIGKILL", "0"],
        ["failure", "killed", "SIGKILL", "3"],
        ["dead", "killed", "SIGKILL", "3"],
    ]
    calls = [line[:5] for line in told(worker) if jobs[1].id in line]
    assert calls[1] == ["dead", "overruns", "TaskTimeoutError", "1", "timeout"]
    for job in jobs:
        ran_in = [line[2] for line in worker.lines("start") if line[1] == job.id]
        [told_in] = [line[-1] for line in worker.lines("dead") if job.id in line]
        assert told_in not in ran_in


def test_a_hook_that_exits_harms_neither_its_process_nor_the_next_job(
    start: Start, producer: Queue, wait_until: WaitUntil
) -> None:
    worker = start(1)
    before = worker.job_children()

    producer.enqueue("exits", max_retries=0)
    wait_until(lambda: worker.lines("dead"))

    assert [producer.enqueue("plain").result(LONG)] == before
    assert "the hook hookapp.died failed" in worker.output()


def test_a_hook_may_enqueue(start: Start, producer: Queue, wait_until: WaitUntil) -> None:
    worker = start(1)

    producer.enqueue("asks", max_retries=0)

    wait_until(lambda: worker.lines("start"), message="the job that on_dead enqueued runs")


@pytest.mark.parametrize("procs", [1, 3])
def test_a_worker_that_stops_tells_of_its_very_last_jobs(
    start: Start, producer: Queue, wait_until: WaitUntil, procs: int
) -> None:
    worker = start(procs)

    jobs = [producer.enqueue("fails_late", max_retries=0) for _ in range(procs)]
    worker.started(procs)
    worker.signal_group(signal.SIGTERM)  # As a service manager does: to the children, too.

    assert worker.wait() == 0
    assert all(job.status == "dead" for job in jobs)
    assert sorted(line[5] for line in worker.lines("dead")) == sorted(job.id for job in jobs)


def test_a_child_that_is_told_to_end_alone_does_so(
    start: Start, producer: Queue, wait_until: WaitUntil
) -> None:
    worker = start(1)
    [child] = worker.job_children()

    os.kill(child, signal.SIGTERM)

    wait_until(lambda: worker.job_children() and child not in worker.job_children(), message="replaced")
    assert producer.enqueue("plain").result(LONG) in worker.job_children()


def test_a_worker_that_stops_tells_what_it_has_been_given(
    start: Start, producer: Queue, wait_until: WaitUntil
) -> None:
    worker = start(2)

    jobs = [producer.enqueue("raises", max_retries=0) for _ in range(100)]
    for job in jobs:
        with pytest.raises(TaskitoError):
            job.result(LONG)
    wait_until(lambda: len(worker.lines("dead")) == 100)
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    assert sorted(line[5] for line in worker.lines("dead")) == sorted(job.id for job in jobs), "each once"


def test_in_threads_hooks_are_told_too_and_all_of_it_before_the_worker_returns(
    queue: Queue, calls: Calls
) -> None:
    errors: list[AttemptError] = []
    queue.on_failure(lambda ctx, error: errors.append(error))
    queue.on_retry(lambda ctx, error, retry_count: calls.append(f"on_retry {retry_count}"))
    queue.on_dead(lambda ctx, error: calls.append("on_dead first"))
    queue.on_dead(lambda ctx, error: calls.append("on_dead second"))

    @queue.task(max_retries=1, retry_delays=[0.0], middleware=[Journal("own", calls)])
    def fail() -> None:
        raise ValueError("as asked")

    with queue.embedded_worker(threads=2):
        job = fail.delay()
        with pytest.raises(MaxRetriesExceededError):
            job.result(LONG)

    told = [call for call in calls if call.startswith(("retry", "on_"))]
    assert told == [
        "retry own: ValueError 1",
        "retry two: ValueError 1",
        "retry one: ValueError 1",
        "on_retry 1",
        "on_dead second",
        "on_dead first",
    ]
    assert [error._replace(worker=None) for error in errors] == [
        error._replace(worker=None) for error in job.errors
    ], "they are told what the store keeps"


def test_a_hook_that_raises_is_logged_and_the_others_are_called(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    queue.on_failure(lambda ctx, error: heard.append("failure"))
    queue.on_dead(lambda ctx, error: heard.append("dead"))

    @queue.on_failure
    def clumsy(ctx: JobContext, error: AttemptError) -> None:
        raise RuntimeError

    task = queue.task(name="t")(lambda: 1 / 0)

    with queue.embedded_worker(threads=1), pytest.raises(TaskitoError):
        task.delay().result(LONG)

    assert heard == ["failure", "dead"]
    assert any("clumsy failed" in record.message for record in caplog.records)


def test_a_result_that_cannot_be_stored_is_a_failure_too(queue: Queue) -> None:
    heard: list[ErrorKind] = []
    queue.on_dead(lambda ctx, error: heard.append(error.kind))
    task = queue.task(name="t")(lambda: [threading.Lock()])

    with queue.embedded_worker(threads=1), pytest.raises(TaskitoError, match="cannot serialise result"):
        task.delay().result(LONG)

    assert heard == [ErrorKind.REJECTED]


def test_only_tasks_with_somebody_to_tell_are_reported_as_such(tmp_path: Path) -> None:
    class Around(Journal):
        on_retry = Journal.__base__.on_retry  # type: ignore[union-attr]

    queue = Queue(tmp_path / "x.db", middleware=[Around("around", [])])
    queue.before_task(lambda ctx: None)
    queue.task(name="plain")(lambda: None)
    queue.task(name="listens", middleware=[Journal("own", [])])(lambda: None)

    def notified() -> set[str]:
        sent = AppManifest.from_json(manifest_of(queue, "app:queue").to_json())
        return {name for name, policy in sent.tasks.items() if policy.notify}

    assert notified() == {"listens"}
    queue.on_dead(lambda ctx, error: None)
    assert notified() == {"plain", "listens"}
