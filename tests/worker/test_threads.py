"""What runs in ``run_worker()`` and ``embedded_worker()``: threads of this process, on every store."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from typing import Any

import pytest

from taskito import (
    JobStatus,
    MaxRetriesExceededError,
    Queue,
    TaskFailedError,
    TaskTimeoutError,
    current_job,
)
from taskito.config.logging import JobFilter
from taskito.worker.store import job_log
from taskito_core.job import DeadReason, ErrorKind

from .conftest import LONG


def test_tasks_made_in_functions_see_what_surrounds_them(queue: Queue) -> None:
    def make(factor: int) -> Any:
        @queue.task(name=f"times-{factor}")
        def times(x: int) -> int:
            seen.append(x)
            return factor * x

        return times

    seen: list[int] = []
    double, triple = make(2), make(3)

    with queue.embedded_worker():
        jobs = [*double.map(range(20)), *triple.map(range(20))]
        results = [job.result(LONG) for job in jobs]

    assert results == [2 * x for x in range(20)] + [3 * x for x in range(20)]
    assert sorted(seen) == sorted([*range(20)] * 2)


def test_an_attempt_that_fails_is_retried_and_the_last_one_ends_in_the_dead_letter(queue: Queue) -> None:
    attempts: list[int] = []

    @queue.task(max_retries=2, retry_delays=[0.0])
    def fails(times: int) -> str:
        attempts.append(current_job.retry_count)
        if current_job.retry_count < times:
            raise ValueError(f"attempt {current_job.retry_count}")
        return "at last"

    with queue.embedded_worker(threads=1):
        assert fails.delay(2).result(LONG) == "at last"
        job = fails.delay(9)
        with pytest.raises(MaxRetriesExceededError, match="failed after 3 attempts: ValueError: attempt 2"):
            job.result(LONG)

    assert attempts == [0, 1, 2] * 2
    [letter] = queue.dead_letters()
    assert (letter.job_id, letter.reason) == (job.id, DeadReason.RETRIES)


def test_whatever_a_task_raises_ends_that_job_only(queue: Queue) -> None:
    @queue.task
    def leave(how: str) -> str:
        match how:
            case "exit":
                sys.exit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "generator":
                raise GeneratorExit
        return how

    with queue.embedded_worker(threads=1):
        jobs = [leave.delay(how) for how in ("exit", "interrupt", "generator")]
        for job in jobs:
            with pytest.raises(TaskFailedError):
                job.result(LONG)
        assert leave.delay("properly").result(LONG) == "properly"


def test_coroutines_run_on_one_event_loop_per_thread(queue: Queue) -> None:
    @queue.task
    async def which(x: int) -> tuple[int, int, str]:
        await asyncio.sleep(0)
        return x, id(asyncio.get_running_loop()), current_job.task_name

    with queue.embedded_worker(threads=1):
        results = [job.result(LONG) for job in which.map(range(5))]

    assert [result[0] for result in results] == list(range(5))
    assert {result[1:] for result in results} == {(results[0][1], which.name)}


def test_jobs_run_in_several_threads_at_once(queue: Queue) -> None:
    everybody = threading.Barrier(3)

    @queue.task
    def meet() -> str:
        everybody.wait(LONG)
        return threading.current_thread().name

    with queue.embedded_worker(threads=3):
        jobs = [meet.delay() for _ in range(3)]
        names = {job.result(LONG) for job in jobs}

    assert len(names) == 3


def test_a_quick_job_does_not_wait_behind_a_slow_one_while_a_thread_is_free(queue: Queue) -> None:
    released = threading.Event()
    slow = queue.task(name="slow")(lambda: released.wait(LONG))
    quick = queue.task(name="quick")(lambda x: x)

    with queue.embedded_worker(threads=2):
        slow_job = slow.delay()
        assert [job.result(LONG) for job in quick.map(range(10))] == list(range(10))
        assert slow_job.status is not JobStatus.COMPLETE
        released.set()
        assert slow_job.result(LONG) is True


def test_records_made_in_a_task_carry_its_job(queue: Queue) -> None:
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler, log = Keep(), logging.getLogger("test.threads")
    handler.addFilter(JobFilter())
    log.addHandler(handler)

    @queue.task(max_retries=1, retry_delays=[0.0])
    def speak() -> None:
        log.warning("here")
        if current_job.retry_count == 0:
            raise ValueError

    try:
        with queue.embedded_worker(threads=2):
            job = speak.delay()
            job.result(LONG)
        log.warning("outside")
    finally:
        log.removeHandler(handler)

    seen = [(vars(record)["job_id"], vars(record)["task"], vars(record)["attempt"]) for record in records]
    assert seen == [(job.id, speak.name, 1), (job.id, speak.name, 2), (None, None, None)]


def test_log_entries_that_found_no_room_on_the_way_to_the_store_are_reported(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(job_log, "MAX_ENTRIES", 10)

    @queue.task
    def talk() -> None:
        for number in range(5000):
            current_job.log(f"line {number}")

    with caplog.at_level(logging.WARNING, "taskito.worker"), queue.embedded_worker(threads=1):
        job = talk.delay()
        job.result(LONG)

    reported = [
        message.split()[0] for message in caplog.messages if "log entries of jobs were dropped" in message
    ]
    stored = queue.task_logs(job.id)
    assert sum(map(int, reported)) == 5000 - len(stored) > 0
    assert stored[-1].message == "line 4999"


def test_only_the_named_queues_are_served(queue: Queue) -> None:
    task = queue.task(name="t")(lambda x: x)

    with queue.embedded_worker(queues=["a", "b"]):
        other = task.using(queue="c").delay(0)
        assert task.using(queue="a").delay(1).result(LONG) == 1
        assert task.using(queue="b").delay(2).result(LONG) == 2
        assert other.status is JobStatus.PENDING


def test_two_workers_at_once_share_the_jobs_and_run_each_once(queue: Queue) -> None:
    runs: list[int] = []
    task = queue.task(name="t")(runs.append)

    with queue.embedded_worker(threads=2), queue.embedded_worker(threads=2):
        for job in task.map(range(200)):
            job.result(LONG)

    assert sorted(runs) == list(range(200))


def test_a_job_over_its_timeout_fails_when_it_returns_and_never_runs_twice_at_once(queue: Queue) -> None:
    inside = threading.Lock()
    runs: list[bool] = []

    @queue.task(timeout=0.05, max_retries=1, retry_delays=[0.0])
    def overrun() -> str:
        runs.append(inside.acquire(blocking=False))
        try:
            time.sleep(1.2)  # beyond the moment at which an overdue job is looked at again
        finally:
            inside.release()
        return "too late"

    with queue.embedded_worker(threads=2):
        job = overrun.delay()
        with pytest.raises(TaskTimeoutError, match=r"its timeout is 0.05 s; a thread cannot be killed"):
            job.result(LONG)

    assert runs == [True, True]
    assert [error.kind for error in job.errors] == [ErrorKind.TIMEOUT] * 2
