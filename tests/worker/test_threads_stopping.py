"""How a worker of threads ends: asked by a thread, a task or a signal, or left by its block."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito import JobStatus, Queue

from .conftest import LONG


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

    wait_until(lambda: not any(thread.name.startswith("taskito-aio") for thread in threading.enumerate()))
    assert len(queue.running) == 0


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
