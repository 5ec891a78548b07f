"""Async jobs that share a child: beside each other, and as little in each other's way as can be."""

from __future__ import annotations

import signal
import textwrap
import time

import pytest

from taskito import JobStatus, Queue, TaskCancelledError, TaskFailedError, TaskTimeoutError
from tests.faults.harness import wait_until

SHARED_APP = """
import asyncio, os, signal, sys, time
from taskito import Queue, current_job
queue = Queue()

def note(word):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"{word} {current_job.id} {os.getpid()} {time.monotonic()}\\n")

@queue.task(max_retries=0)
async def nap(seconds):
    note("start")
    await asyncio.sleep(seconds)
    note("end")
    return [current_job.id, os.getpid()]

@queue.task(max_retries=0)
def plain(seconds):
    note("start")
    time.sleep(seconds)
    note("end")
    return os.getpid()

@queue.task(max_retries=0, retry_backoff=0.0, retry_jitter=False)
async def dies():
    note("start")
    await asyncio.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)

@queue.task(max_retries=0, max_crashes=0)
async def once(seconds):
    note("start")
    await asyncio.sleep(seconds)
    note("end")

@queue.task(max_retries=0, soft_timeout=0.5)
async def limited(blocking):
    note("start")
    if blocking == "child":
        await asyncio.gather(asyncio.create_task(block()))
    elif blocking:
        await block()
    await asyncio.sleep(30)

async def block():
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pass

@queue.task(max_retries=0, timeout=1.0)
async def overruns():
    note("start")
    await asyncio.sleep(0.5)
    time.sleep(30)

@queue.task(max_retries=0)
async def blocks(seconds):
    note("start")
    time.sleep(seconds)
    note("end")
    return os.getpid()

@queue.task(max_retries=0)
async def waits_for_cancel():
    note("start")
    while True:
        current_job.check_cancelled()
        await asyncio.sleep(0.01)

@queue.task(max_retries=0)
async def exits():
    await asyncio.sleep(0.3)
    sys.exit(3)

@queue.task(max_retries=0)
async def leaves():
    async def lasting():
        await asyncio.sleep(3600)
    asyncio.create_task(lasting(), name="left")
    await asyncio.sleep(0.2)

@queue.task(max_retries=0, capture_output=True)
async def talks(word):
    for count in range(3):
        print(word, count)
        await asyncio.sleep(0.1)
    current_job.log(f"done {word}")
"""


@pytest.fixture
def start(start_worker, tmp_path):
    (tmp_path / "sharedapp.py").write_text(textwrap.dedent(SHARED_APP))

    def start(*arguments, procs=1):
        return start_worker(*arguments, app="sharedapp:queue", procs=procs)

    return start


@pytest.fixture
def queue(backend_url):
    with Queue(db_url=backend_url) as queue:
        yield queue


def send(queue, name, *args):
    return queue.enqueue(f"sharedapp.{name}", args)


def most_at_once(worker) -> int:
    moments = sorted((float(at), 1 if word == "start" else -1) for word, _, _, at in worker.lines())
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def test_ten_jobs_of_a_second_on_two_processes_take_about_a_second(start, queue):
    worker = start(procs=2)

    began = time.monotonic()
    jobs = [send(queue, "nap", 1.0) for _ in range(10)]
    values = [job.result(30) for job in jobs]

    assert time.monotonic() - began < 3.5, "one after the other they take 5 s; a busy machine adds some"
    assert [id_ for id_, _ in values] == [job.id for job in jobs], "each sees itself as the current job"
    assert {pid for _, pid in values} == set(worker.job_children()), "both have their share"


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_run_in_a_child_than_the_option_says(start, queue, most):
    worker = start("--async-concurrency", str(most))

    for job in [send(queue, "nap", 0.2) for _ in range(7)]:
        job.result(30)

    assert most_at_once(worker) == most


def test_what_they_print_and_log_is_kept_with_the_right_job(start, queue):
    start()

    jobs = [send(queue, "talks", word) for word in ("red", "green", "blue")]

    for job, word in zip(jobs, ("red", "green", "blue"), strict=True):
        job.result(30)
        assert [entry.message for entry in queue.task_logs(job.id)] == [
            *(f"{word} {count}" for count in range(3)),
            f"done {word}",
        ]


@pytest.mark.parametrize("blocking", [False, True, "child"])
def test_a_soft_limit_is_raised_in_its_own_job_only(start, queue, blocking):
    worker = start()
    others = [send(queue, "nap", 2.0) for _ in range(3)]
    worker.started(3)

    with pytest.raises(TaskTimeoutError, match="soft_timeout"):
        send(queue, "limited", blocking).result(30)

    assert all(job.result(30) for job in others)
    assert set(worker.starts().values()) == {1}


def test_a_hard_limit_costs_those_beside_it_a_run_and_no_attempt(start, queue):
    worker = start()
    others = [send(queue, "nap", 2.0) for _ in range(3)]
    worker.started(3)

    with pytest.raises(TaskTimeoutError, match="process was killed"):
        send(queue, "overruns").result(30)

    assert all(job.result(30) for job in others)
    for job in queue.storage.get([job.id for job in others]):
        assert (job.retry_count, job.crashes, job.interruptions, worker.starts()[job.id]) == (0, 0, 0, 2)


def test_a_crash_of_several_is_charged_to_each_once_and_then_to_the_guilty_alone(start, queue):
    worker = start()
    others = [send(queue, "nap", 3.0) for _ in range(3)]
    worker.started(3)
    guilty = send(queue, "dies")

    with pytest.raises(TaskFailedError, match="killed by SIGKILL"):
        guilty.result(60)

    assert all(job.result(30) for job in others)
    assert [job.crashes for job in queue.storage.get([job.id for job in others])] == [1, 1, 1]
    assert [job.crashes for job in queue.storage.get([guilty.id])] == [3]
    assert "any of which may be the cause" in guilty.errors[0].message
    assert "any of which" not in guilty.errors[1].message, "it was alone then"
    assert {worker.starts()[job.id] for job in others} == {2}, "no later crash took them along"


def test_a_job_that_must_not_run_twice_runs_beside_no_other(start, queue):
    worker = start()
    jobs = [send(queue, name, 0.3) for name in ("once", "nap", "once", "nap", "once")]

    for job in jobs:
        job.result(30)

    spans = {job.id: [] for job in jobs}
    for _, job_id, _, at in worker.lines():
        spans[job_id].append(float(at))
    for index in (0, 2, 4):
        begin, end = spans[jobs[index].id]
        others = [spans[job.id] for job in jobs if job is not jobs[index]]
        assert all(other[1] <= begin or other[0] >= end for other in others)


def test_cancelling_one_leaves_the_others_alone(start, queue):
    worker = start()
    others = [send(queue, "nap", 3.0) for _ in range(2)]
    asked, forced = send(queue, "waits_for_cancel"), send(queue, "nap", 60.0)
    worker.started(4)

    assert asked.cancel()
    assert forced.cancel(force=True)

    for job in (asked, forced):
        with pytest.raises(TaskCancelledError):
            job.result(30)
    assert all(job.result(30) for job in others)
    assert set(worker.starts().values()) == {1}


def test_a_plain_job_runs_beside_no_other_and_is_not_starved(start, queue):
    worker = start()
    first = [send(queue, "nap", 0.2) for _ in range(25)]
    plain = send(queue, "plain", 0.3)
    for job in [*first, *(send(queue, "nap", 0.2) for _ in range(60))]:
        job.result(60)
    plain.result(30)

    begin, end = (float(line[3]) for line in worker.lines() if line[1] == plain.id)
    others = [line for line in worker.lines() if line[1] != plain.id]
    assert not [line for line in others if begin < float(line[3]) < end]
    assert len([line for line in others if line[0] == "start" and float(line[3]) > end]) >= 30


def test_what_waits_behind_one_that_blocks_goes_to_another_child(start, queue):
    worker = start(procs=2)
    blocking = send(queue, "blocks", 4.0)
    worker.started(1)

    for job in [send(queue, "nap", 0.1) for _ in range(15)]:
        job.result(30)

    assert blocking.status is JobStatus.RUNNING
    assert blocking.result(30)


def test_a_drained_worker_ends_what_runs_and_gives_the_rest_back(start, queue):
    worker = start("--async-concurrency", "4")
    jobs = [send(queue, "nap", 1.0) for _ in range(12)]
    worker.started(4)

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    found = [job.status for job in map(queue.get_job, [job.id for job in jobs])]
    assert found.count(JobStatus.COMPLETE) == len(worker.lines("end")) == len(worker.lines("start"))
    assert found.count(JobStatus.PENDING) == 12 - found.count(JobStatus.COMPLETE)


def test_a_second_signal_interrupts_all_that_run_uncharged(start, queue):
    worker = start()
    jobs = [send(queue, "nap", 60.0) for _ in range(5)]
    worker.started(5)

    worker.signal(signal.SIGTERM)
    wait_until(lambda: "draining" in worker.output())
    time.sleep(0.6)  # Two signals within half a second count as one.
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 75
    stored = queue.storage.get([job.id for job in jobs])
    assert {(job.status, job.retry_count, job.crashes) for job in stored} == {(JobStatus.PENDING, 0, 0)}


def test_an_exit_ends_its_own_job_only(start, queue):
    worker = start()
    others = [send(queue, "nap", 1.0) for _ in range(3)]
    worker.started(3)

    with pytest.raises(TaskFailedError, match="SystemExit"):
        send(queue, "exits").result(30)

    assert all(job.result(30) for job in others)
    assert set(worker.starts().values()) == {1}


def test_what_a_job_leaves_running_is_ended_while_others_go_on(start, queue):
    worker = start()
    other = send(queue, "nap", 2.0)
    worker.started(1)

    send(queue, "leaves").result(30)

    wait_until(lambda: "left (leaves.<locals>.lasting)" in worker.output())
    assert other.status is JobStatus.RUNNING
    assert other.result(30)


def test_a_child_is_replaced_after_its_jobs_and_none_is_lost(start, queue):
    worker = start("--max-jobs-per-child", "5")
    [first] = worker.job_children()

    pids = {job.result(60)[1] for job in [send(queue, "nap", 0.05) for _ in range(40)]}

    assert first in pids
    assert len(pids) >= 3
    assert set(worker.starts().values()) == {1}


def test_the_memory_of_jobs_that_share_a_process_is_not_told(start, queue):
    worker = start()
    for job in [send(queue, "nap", 0.5) for _ in range(4)]:
        job.result(30)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0

    [task] = queue.metrics()
    assert (task.count, task.peak_memory) == (4, 0)
