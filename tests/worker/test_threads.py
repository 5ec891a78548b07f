"""The worker of ``run_worker()`` and ``embedded_worker()``: threads of this process, on every store."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import WaitUntil
from taskito import (
    ConfigError,
    JobStatus,
    MaxRetriesExceededError,
    Queue,
    StorageUnavailable,
    TaskFailedError,
    TaskTimeoutError,
    current_job,
)
from taskito_core.job import DeadReason, ErrorKind, new_id
from taskito_core.logs import JobFilter
from taskito_core.testing.plugin import register_memory_plugin
from taskito_core.testing.store import forget
from tools.private_postgres import Server

LONG = 60.0  #: seconds that are never reached


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty store on each backend in turn, the memory of this process among them."""
    if request.param != "memory":
        yield request.getfixturevalue(f"{request.param}_url")
        return
    register_memory_plugin()
    name = new_id()
    yield f"memory://{name}"
    forget(name)


@pytest.fixture
def queue(backend_url: str) -> Iterator[Queue]:
    with Queue(db_url=backend_url, workers=2, default_retry=0) as queue:
        yield queue


@contextmanager
def asked_to_stop_when(
    predicate: Callable[[], object], queue: Queue, wait_until: WaitUntil
) -> Iterator[None]:
    """Another thread asks the queue's workers to stop once something is true."""

    def ask() -> None:
        try:
            wait_until(predicate)
        finally:
            queue.request_shutdown()

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    thread.join(LONG)


# ---- what runs ----


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


def test_only_the_named_queues_are_served(queue: Queue) -> None:
    task = queue.task(name="t")(lambda x: x)

    with queue.embedded_worker(queues=["a", "b"]):
        other = task.using(queue="c").delay(0)
        assert task.using(queue="a").delay(1).result(LONG) == 1
        assert task.using(queue="b").delay(2).result(LONG) == 2
        assert other.status is JobStatus.PENDING


# ---- time limits ----


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


# ---- stopping ----


def test_run_worker_blocks_until_another_thread_asks_it_to_stop(queue: Queue, wait_until: WaitUntil) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    job = queue.task(name="t")(lambda: "done").delay()

    with asked_to_stop_when(lambda: job.status is JobStatus.COMPLETE, queue, wait_until):
        queue.run_worker(threads=1)

    assert job.result(0) == "done"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert [str(worker.status) for worker in queue.workers()] == ["stopped"]


def test_a_task_may_stop_the_worker_it_runs_in(queue: Queue) -> None:
    @queue.task
    def last() -> str:
        queue.request_shutdown()
        return "was here"

    job, later = last.delay(), last.using(delay=3600).delay()

    queue.run_worker(threads=1)

    assert job.result(0) == "was here"
    assert later.status is JobStatus.PENDING


def test_what_has_not_begun_goes_back_and_what_runs_ends(queue: Queue, wait_until: WaitUntil) -> None:
    begun, released = threading.Event(), threading.Event()

    @queue.task
    def wait(x: int) -> int:
        begun.set()
        assert released.wait(LONG)
        return x

    jobs = wait.map(range(20))
    worker = threading.Thread(target=queue.run_worker, kwargs={"threads": 1})
    worker.start()
    assert begun.wait(LONG)

    queue.request_shutdown()
    wait_until(lambda: queue.stats()["running"] == 1)
    released.set()
    worker.join(LONG)

    assert not worker.is_alive()
    assert [job.status for job in jobs] == [JobStatus.COMPLETE] + [JobStatus.PENDING] * 19
    assert [job.to_dict()["interruptions"] for job in jobs] == [0] * 20


def test_a_job_that_does_not_end_in_time_goes_back_uncharged(queue: Queue, wait_until: WaitUntil) -> None:
    begun, released = threading.Event(), threading.Event()

    @queue.task
    def stuck() -> str:
        begun.set()
        assert released.wait(LONG)
        return "ended"

    with queue.embedded_worker(threads=1, graceful_timeout=0):
        job = stuck.delay()
        assert begun.wait(LONG)
    known = job.refresh().to_dict()
    released.set()

    assert (known["status"], known["retry_count"], known["interruptions"]) == ("pending", 0, 0)
    wait_until(lambda: not any(thread.name == "taskito-1" for thread in threading.enumerate()))
    assert job.status is JobStatus.PENDING  # what that run returned is nobody's any more
    with queue.embedded_worker():
        assert job.result(LONG) == "ended"


def test_workers_after_each_other_leave_nothing_behind(queue: Queue) -> None:
    task = queue.task(name="t")(lambda x: x)
    threads = set(threading.enumerate())

    for x in range(3):
        with queue.embedded_worker(threads=4):
            assert task.delay(x).result(LONG) == x
        ours = {thread for thread in set(threading.enumerate()) - threads if thread.name == "taskito-worker"}
        assert ours == set()

    assert [str(worker.status) for worker in queue.workers()] == ["stopped"] * 3


def test_two_workers_at_once_share_the_jobs_and_run_each_once(queue: Queue) -> None:
    runs: list[int] = []
    task = queue.task(name="t")(runs.append)

    with queue.embedded_worker(threads=2), queue.embedded_worker(threads=2):
        for job in task.map(range(200)):
            job.result(LONG)

    assert sorted(runs) == list(range(200))


def test_leaving_one_embedded_worker_stops_only_that_one(queue: Queue) -> None:
    task = queue.task(name="t")(lambda: "done")

    with queue.embedded_worker():
        with queue.embedded_worker():
            pass
        assert task.delay().result(LONG) == "done"


def test_leaving_at_once_or_by_an_exception_stops_the_worker_too(queue: Queue) -> None:
    queue.task(name="t")(lambda: "done")

    with queue.embedded_worker():
        pass
    with pytest.raises(ZeroDivisionError), queue.embedded_worker():
        _ = 1 / 0


def test_a_worker_that_is_cancelled_before_it_runs_never_does(queue: Queue, wait_until: WaitUntil) -> None:
    queue.task(name="t")(lambda: "done")

    async def main() -> None:
        worker = asyncio.create_task(queue.arun_worker())
        await asyncio.sleep(0)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker

    asyncio.run(main())

    wait_until(lambda: not any(thread.name == "taskito-aio-run" for thread in threading.enumerate()))
    assert queue._running == ()


PROGRAM = """
import logging, pathlib, sys, time
from taskito import Queue

logging.basicConfig(level="INFO", stream=sys.stderr)
queue = Queue(db_url=sys.argv[1])

@queue.task(name="wait")
def wait():
    pathlib.Path("begun").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    return "finished"

queue.run_worker(threads=1)
print("returned", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_signal_for_the_program_lets_the_running_job_finish(
    postgres_url: str, sqlite_url: str, tmp_path: Path, wait_until: WaitUntil, kind: str, number: int
) -> None:
    url = postgres_url if kind == "postgres" else sqlite_url
    log = tmp_path / "log"
    with Queue(db_url=url) as queue, log.open("wb") as out:
        running, waiting = queue.enqueue("wait"), queue.enqueue("wait")
        program = subprocess.Popen([sys.executable, "-c", PROGRAM, url], cwd=tmp_path, stderr=out)
        try:
            wait_until((tmp_path / "begun").exists)
            program.send_signal(number)
            wait_until(lambda: "draining" in log.read_text())
            (tmp_path / "go").touch()
            assert program.wait(LONG) == 0, log.read_text()
        finally:
            program.kill()
            program.wait()

        assert {job.status for job in (running, waiting)} == {JobStatus.COMPLETE, JobStatus.PENDING}
        assert [str(worker.status) for worker in queue.workers()] == ["stopped"]
    assert "returned" in log.read_text()


# ---- what cannot start, or cannot end ----


def test_a_queue_without_tasks_has_nothing_to_run(queue: Queue) -> None:
    with pytest.raises(ConfigError, match="this queue has no tasks"):
        queue.run_worker()
    with pytest.raises(ConfigError, match="this queue has no tasks"), queue.embedded_worker():
        pytest.fail("it was entered")


def test_a_store_that_does_not_answer_is_unavailable_and_the_error_says_why(
    caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and nobody listens
        with Queue(db_url=f"postgresql://me:secret@127.0.0.1:{probe.getsockname()[1]}/db") as queue:
            queue.task(name="t")(lambda: 1)

            with pytest.raises(StorageUnavailable, match=r"did not answer within 0.3 s: .*refused") as caught:
                queue.run_worker(threads=1, boot_timeout=0.3)

            assert isinstance(caught.value.__cause__, StorageUnavailable)
            assert "secret" not in str(caught.value)
            with pytest.raises(StorageUnavailable), queue.embedded_worker(boot_timeout=0):
                # The block hears of it in the log, before it is left.
                wait_until(lambda: "the embedded worker failed: the store did not answer" in caplog.text)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_store_that_must_be_migrated_first_is_a_matter_of_configuration(
    postgres_url: str, sqlite_url: str, kind: str
) -> None:
    url = postgres_url if kind == "postgres" else sqlite_url
    with Queue(db_url=url, auto_migrate=False) as queue:
        queue.task(name="t")(lambda: 1)

        with pytest.raises(ConfigError, match="taskito migrate"):
            queue.run_worker(threads=1)


def test_results_that_the_store_did_not_take_at_the_end_are_an_error(
    private_server: Server, wait_until: WaitUntil
) -> None:
    begun, released = threading.Event(), threading.Event()
    with Queue(db_url=private_server.new_database("taskito_test")) as queue:

        @queue.task
        def wait() -> None:
            begun.set()
            assert released.wait(LONG)

        def work() -> None:
            with queue.embedded_worker(threads=1, graceful_timeout=0):
                wait.delay()
                assert begun.wait(LONG)
                private_server.stop(mode="immediate")
                released.set()

        with pytest.raises(StorageUnavailable, match="1 jobs could not be settled"):
            work()
