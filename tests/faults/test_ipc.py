"""Whatever a task does to its process's descriptors, outputs and forks harms nothing but that job."""

from __future__ import annotations

import os
import resource
import signal
import time

import pytest

from taskito import PayloadTooLarge, TaskFailedError
from taskito_core.job import ErrorKind, JobStatus
from tests.faults.harness import finished, stat_fields, wait_until


def test_megabytes_on_closed_outputs_do_not_disturb_the_protocol(app, start_worker):
    start_worker(procs=1)

    assert app.chatter.delay().result(30) == "quiet"
    assert app.add.delay(1, 2).result(20) == 3
    assert app.queue.stats()["dead"] == 0


def test_forks_of_a_task_die_by_the_default_and_hold_nothing_of_ours(app, start_worker):
    worker = start_worker(procs=1)
    before = worker.job_children()

    assert app.forks.delay().result(30) == [int(signal.SIGTERM), 1, 2, 3]

    assert app.add.delay(1, 2).result(20) == 3
    assert worker.job_children() == before


def test_a_task_that_closes_every_descriptor_crashes_with_a_clear_message(app, start_worker):
    start_worker(procs=1)
    others = app.square.map(range(10))
    job = app.closes_everything.delay()

    assert job.result(30) == "survived"
    [error] = app.queue.storage.errors(job.id)
    assert error.kind in (ErrorKind.CRASH, ErrorKind.INTERRUPTED)
    assert "process" in error.message
    assert [other.result(20) for other in others] == [n * n for n in range(10)]


def test_a_payload_or_result_over_the_limit_is_refused(app, start_worker):
    start_worker(procs=1)
    too_large = app.queue.settings.max_payload + 1

    with pytest.raises(PayloadTooLarge):
        app.add.delay("x" * too_large, "")
    job = app.big.delay(too_large)

    with pytest.raises(TaskFailedError, match="max_payload"):
        job.result(40)
    assert app.add.delay(1, 2).result(20) == 3


def test_a_stopped_child_blocks_no_other_and_its_hard_limit_still_holds(app, start_worker):
    worker = start_worker()
    late = app.overrun.delay(600)
    worker.started(1)
    stopped = int(worker.lines("start")[0][2])

    os.kill(stopped, signal.SIGSTOP)
    jobs = app.square.map(range(200))

    assert [job.result(30) for job in jobs] == [n * n for n in range(200)]
    finished(app.queue.storage, [late.id], 30)
    assert app.queue.storage.errors(late.id)[0].type == "TaskTimeoutError"
    wait_until(lambda: stopped not in worker.job_children(), 10)


def test_garbage_on_the_sockets_costs_that_child_and_its_job_only(app, start_worker):
    start_worker()
    others = app.nap.map([0.5] * 2)
    job = app.writes_garbage.delay()

    assert job.result(30) == "survived"
    assert [other.result(20) for other in others] == ["rested"] * 2
    assert app.queue.storage.get([job.id])[0].crashes == 1
    assert all(row.crashes == 0 for row in app.queue.storage.get([other.id for other in others]))


def test_without_descriptors_or_processes_the_supervisor_backs_off_and_lives(app, start_worker):
    worker = start_worker()
    # So few descriptors that it cannot make the sockets of another child.
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (4, 4096))
    victim = worker.job_children()[0]

    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: "could not be started" in worker.output(), 10)
    job = app.add.delay(1, 2)

    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (4096, 4096))
    assert job.result(30) == 3
    wait_until(lambda: len(worker.job_children()) == 2, 60, "back at two children")


def test_async_tasks_run(app, start_worker):
    start_worker(procs=1)

    assert app.wait_async.delay(0.1).result(20) == "awaited"


@pytest.mark.parametrize("seconds", [4, pytest.param(100, marks=pytest.mark.faults)])
def test_an_idle_worker_sleeps(app, start_worker, seconds):
    worker = start_worker()
    app.noop.delay().result(20)
    before = cpu_ticks(worker)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > seconds, 2 * seconds)

    used = (cpu_ticks(worker) - before) / os.sysconf("SC_CLK_TCK")

    # Benchmarks measure how little it is; this forbids loops that spin or poll.
    assert used < (0.4 if seconds == 4 else 1.0)


def cpu_ticks(worker) -> int:
    pids = [worker.pid, *worker.job_children()]
    return sum(int(fields[11]) + int(fields[12]) for fields in map(stat_fields, pids))


def test_jobs_of_a_task_nobody_here_knows_wait_for_a_worker_that_does(app, start_worker):
    start_worker()
    strange = app.queue.enqueue("elsewhere.task", (1,))
    assert app.add.delay(1, 2).result(20) == 3

    [row] = app.queue.storage.get([strange.id])
    assert row.status is JobStatus.PENDING
    assert (row.retry_count, row.crashes, row.interruptions) == (0, 0, 0)
