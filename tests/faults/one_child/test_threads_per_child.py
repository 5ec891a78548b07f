"""Jobs that share a child in threads: what they gain, and which isolation is left."""

from __future__ import annotations

import signal
import textwrap
import time

import pytest

from taskito import JobStatus, Queue, TaskCancelledError, TaskFailedError, TaskTimeoutError
from tests.faults.harness import wait_until

THREADS_APP = """
import asyncio, os, signal, threading, time
from taskito import Queue, current_job
queue = Queue()

def note(word):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"{word} {current_job.id} {os.getpid()}\\n")

@queue.task(max_retries=0, capture_output=True)
def nap(seconds):
    note("start")
    print("asleep", current_job.id)
    time.sleep(seconds)
    note("end")
    return [current_job.id, os.getpid(), threading.current_thread() is threading.main_thread()]

@queue.task(max_retries=0)
async def async_nap(seconds):
    note("start")
    await asyncio.sleep(seconds)
    return [current_job.id, os.getpid(), threading.current_thread() is threading.main_thread()]

@queue.task(max_retries=0, timeout=1.0)
def overruns():
    note("start")
    time.sleep(60)

@queue.task(max_retries=0, soft_timeout=0.3)
def checks():
    while True:
        current_job.check_timeout()
        time.sleep(0.01)

@queue.task(max_retries=0)
def stops_when_asked():
    note("start")
    while True:
        current_job.check_cancelled()
        time.sleep(0.01)

@queue.task(max_retries=0, retry_backoff=0.0, retry_jitter=False)
def dies():
    note("start")
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)

@queue.task(max_retries=0)
def forks():
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "the copy"
"""


@pytest.fixture
def start(start_worker, tmp_path):
    (tmp_path / "threadsapp.py").write_text(textwrap.dedent(THREADS_APP))
    return lambda *arguments: start_worker(
        "--threads", "8", *arguments, app="threadsapp:queue", procs=1, PYTHONWARNINGS="ignore"
    )


@pytest.fixture
def queue(backend_url):
    with Queue(db_url=backend_url) as queue:
        yield queue


def send(queue, name, *args):
    return queue.enqueue(f"threadsapp.{name}", args)


def test_as_many_jobs_as_threads_run_at_once_beside_coroutines(start, queue):
    worker = start()
    [child] = worker.job_children()

    began = time.monotonic()
    jobs = [send(queue, name, 1.0) for name in ("nap", "async_nap") for _ in range(8)]
    values = [job.result(30) for job in jobs]

    assert time.monotonic() - began < 5.0, "one after the other they take 16 s"
    assert values == [[job.id, child, index >= 8] for index, job in enumerate(jobs)]
    for job in jobs[:8]:
        assert [entry.message for entry in queue.task_logs(job.id)] == [f"asleep {job.id}"]


def test_a_thread_sees_its_soft_limit_and_a_cancel_only_if_it_asks(start, queue):
    worker = start()
    other, asked = send(queue, "nap", 2.0), send(queue, "stops_when_asked")
    worker.started(2)

    with pytest.raises(TaskTimeoutError, match="soft_timeout"):
        send(queue, "checks").result(30)
    assert asked.cancel(force=True)
    with pytest.raises(TaskCancelledError):
        asked.result(30)

    assert other.result(30)
    assert set(worker.starts().values()) == {1}


def test_a_hard_limit_and_a_forced_cancel_end_the_process_and_the_others_lose_no_attempt(start, queue):
    worker = start()
    others = [send(queue, "nap", 8.0), send(queue, "async_nap", 8.0)]
    deaf = send(queue, "nap", 60.0)
    worker.started(3)

    with pytest.raises(TaskTimeoutError, match="process was killed"):
        send(queue, "overruns").result(30)
    worker.started(7)
    assert deaf.cancel(force=True)
    with pytest.raises(TaskCancelledError):
        deaf.result(30)

    for job in others:
        job.result(30)
    stored = queue.storage.get([job.id for job in others])
    assert {(job.retry_count, job.crashes, job.interruptions) for job in stored} == {(0, 0, 0)}


def test_a_crash_is_charged_to_each_once_and_then_to_the_guilty_alone(start, queue):
    worker = start()
    others = [send(queue, "nap", 3.0) for _ in range(2)]
    worker.started(2)
    guilty = send(queue, "dies")

    with pytest.raises(TaskFailedError, match="killed by SIGKILL"):
        guilty.result(60)

    for job in others:
        assert job.result(30)[2], "alone, it ran in the main thread"
    stored = queue.storage.get([*(job.id for job in others), guilty.id])
    assert sorted(job.crashes for job in stored) == [1, 1, 3]


def test_the_copy_of_a_job_that_forks_ends_where_the_job_does(start, queue):
    worker = start()
    other = send(queue, "nap", 1.5)
    worker.started(1)

    assert send(queue, "forks").result(30) == 0
    assert other.result(30)


def test_a_drained_child_waits_for_its_threads(start, queue):
    worker = start()
    jobs = [send(queue, "nap", 1.0) for _ in range(3)]
    worker.started(3)

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    assert {job.status for job in map(queue.get_job, [job.id for job in jobs])} == {JobStatus.COMPLETE}
    wait_until(lambda: not worker.job_children())
