"""Cancelling by force: whatever the task does about it, the job ends, and as cancelled."""

from __future__ import annotations

import textwrap

import pytest

from taskito import JobStatus, Queue, TaskCancelledError
from tests.faults.harness import wait_until

DEAF_APP = """
import asyncio, itertools, os, threading, time
from taskito import Queue, current_job
queue = Queue()
swallowed = 0

def began():
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"start {current_job.id} {os.getpid()}\\n")

def ended(exc):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"swallowed {type(exc).__name__}\\n")

@queue.task(max_retries=0)
def sleeps(times):
    began()
    for _ in range(times):
        try:
            time.sleep(3600)
        except BaseException as exc:
            ended(exc)
    return "after all"

@queue.task(max_retries=0)
async def awaits(times):
    began()
    for _ in range(times):
        try:
            await asyncio.sleep(3600)
        except BaseException as exc:
            ended(exc)
    return "after all"

@queue.task(max_retries=0)
async def awaits_a_thread(times):
    began()
    while True:
        try:
            await asyncio.gather(asyncio.to_thread(threading.Event().wait), asyncio.sleep(3600))
        except BaseException as exc:
            ended(exc)

@queue.task(max_retries=0)
def counts_in_c(times):
    began()
    sum(itertools.repeat(0))

@queue.task
def whoami():
    return os.getpid()
"""


@pytest.fixture
def worker(start_worker, tmp_path):
    (tmp_path / "deafapp.py").write_text(textwrap.dedent(DEAF_APP))
    return start_worker(app="deafapp:queue", procs=2)


@pytest.fixture
def queue(backend_url):
    with Queue(db_url=backend_url) as queue:
        yield queue


@pytest.mark.parametrize("name", ["sleeps", "awaits", "awaits_a_thread", "counts_in_c"])
def test_a_forced_cancel_that_is_swallowed_is_repeated_and_then_ends_the_process(worker, queue, name):
    job = queue.enqueue(f"deafapp.{name}", (1000,))
    worker.started(1)
    [[_, _, child]] = worker.lines("start")
    others = set(worker.job_children()) - {int(child)}

    assert job.cancel(force=True)

    with pytest.raises(TaskCancelledError, match="somebody asked for it while it ran"):
        job.result(30)
    assert (job.status, job.errors) == (JobStatus.CANCELLED, []), "no crash, and no limit that was overrun"
    wait_until(lambda: len(worker.job_children()) == 2 and int(child) not in worker.job_children())
    assert others <= set(worker.job_children())
    assert queue.enqueue("deafapp.whoami").result(30) in worker.job_children()
    assert len(worker.starts()) == 1
    if name != "counts_in_c":
        assert len(worker.lines("swallowed")) >= 3, "it was told again and again"


@pytest.mark.parametrize("name", ["sleeps", "awaits"])
def test_a_job_that_ends_all_the_same_while_it_is_told_again_keeps_its_result_and_its_process(
    worker, queue, name
):
    before = worker.job_children()
    job = queue.enqueue(f"deafapp.{name}", (3,))
    worker.started(1)

    assert job.cancel(force=True)

    assert job.result(30) == "after all"
    assert worker.lines("swallowed") == [["swallowed", "JobCancelled"]] * 3
    assert {queue.enqueue("deafapp.whoami").result(30) for _ in range(4)} <= set(before)
    assert worker.job_children() == before
