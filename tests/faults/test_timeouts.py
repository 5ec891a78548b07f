"""Soft limits reach whatever the task waits in; hard limits end the process of a job that is late."""

from __future__ import annotations

import time

import pytest

from taskito import TaskTimeoutError
from taskito_core.job import ErrorKind, JobStatus
from tests.faults.harness import finished, processes, wait_until


@pytest.mark.parametrize("where", ["sleep", "recv", "lock", "subprocess", "regex", "await", "loop"])
def test_a_soft_limit_is_raised_wherever_the_task_waits(app, start_worker, where):
    worker = start_worker(procs=1)
    before = worker.job_children()
    job = app.soft.delay(where)

    finished(app.queue.storage, [job.id], 30)

    [noted] = worker.lines("soft")
    assert float(noted[1]) < 3.0, "the limit is 0.3 s"
    [error] = app.queue.storage.errors(job.id)
    assert (error.kind, error.type) == (ErrorKind.TIMEOUT, "SoftTimeoutError")
    assert worker.job_children() == before
    with pytest.raises(TaskTimeoutError):
        job.result(5)


def test_except_exception_cannot_swallow_a_soft_limit(app, start_worker):
    start_worker(procs=1)
    job = app.swallows_exceptions.delay()

    finished(app.queue.storage, [job.id], 30)

    assert app.queue.storage.errors(job.id)[0].type == "SoftTimeoutError"


def test_a_bare_except_meets_it_again_each_second_and_then_the_hard_limit(app, start_worker):
    worker = start_worker(procs=1)
    job = app.swallows_all.delay()

    finished(app.queue.storage, [job.id], 30)

    assert len(worker.lines("swallowed")) >= 2
    assert app.queue.storage.errors(job.id)[0].type == "TaskTimeoutError"


@pytest.mark.parametrize("task", ["overrun", "overrun_in_c", "overrun_loop"])
def test_a_hard_limit_kills_the_jobs_process_and_stores_its_stack(app, start_worker, task):
    worker = start_worker()
    bystander = app.nap.delay(3.0)
    worker.started(1)
    began = time.monotonic()
    job = getattr(app, task).delay(600)

    finished(app.queue.storage, [job.id], 30)

    assert time.monotonic() - began < 10, "the limit is 1 s"
    [error] = app.queue.storage.errors(job.id)
    assert (error.kind, error.type) == (ErrorKind.TIMEOUT, "TaskTimeoutError")
    assert error.traceback is not None
    assert f"in {task}" in error.traceback
    assert app.queue.storage.get([job.id])[0].crashes == 0
    assert bystander.result(20) == "rested"
    wait_until(lambda: len(worker.job_children()) == 2, 10)
    with pytest.raises(TaskTimeoutError):
        job.result(5)


def test_a_hard_timeout_consumes_a_retry(app, start_worker):
    worker = start_worker(procs=1)
    job = app.overrun_twice.delay()

    finished(app.queue.storage, [job.id], 30)

    [row] = app.queue.storage.get([job.id])
    assert (row.status, row.retry_count, row.crashes) == (JobStatus.DEAD, 1, 0)
    assert worker.starts()[job.id] == 2


@pytest.mark.parametrize("rounds", [60, pytest.param(1000, marks=pytest.mark.faults)])
def test_a_job_that_ends_about_at_its_limit_is_one_or_the_other_and_harms_no_next_job(
    app, start_worker, rounds
):
    worker = start_worker()
    close = [app.about_a_limit.delay(0.2 + (n % 11 - 5) / 1000) for n in range(rounds)]
    quick = [app.square.delay(n) for n in range(rounds)]

    finished(app.queue.storage, [job.id for job in (*close, *quick)], 60 + rounds)

    starts = worker.starts()
    for row in app.queue.storage.get([job.id for job in close]):
        errors = app.queue.storage.errors(row.id)
        assert starts[row.id] == 1
        assert row.crashes == 0
        if row.status is JobStatus.COMPLETE:
            assert errors == []
        else:
            assert [error.type for error in errors] == ["TaskTimeoutError"]
    assert [job.result(5) for job in quick] == [n * n for n in range(rounds)]
    assert all(row.crashes == 0 for row in app.queue.storage.get([job.id for job in quick]))


def test_a_hard_limit_takes_grandchildren_along_also_those_that_left_the_group(app, start_worker):
    worker = start_worker(procs=1)
    job = app.overrun_with_grandchildren.delay()
    wait_until(lambda: len(worker.lines("grandchild")) == 2, 20)
    grandchildren = {int(line[1]) for line in worker.lines("grandchild")}

    finished(app.queue.storage, [job.id], 30)

    wait_until(lambda: not grandchildren & {pid for pid, _ in processes()}, 10, "gone and reaped")


def test_no_timeout_is_no_limit(app, start_worker):
    worker = start_worker()
    job = app.unlimited.delay(3.0)

    assert job.result(30) == "done"
    assert worker.starts()[job.id] == 1


def test_a_tasks_own_alarm_works_beside_a_hard_limit(app, start_worker):
    start_worker(procs=1)

    assert app.own_alarm.delay(0.2).result(20) == "my alarm"
    late = app.own_alarm.delay(600.0)
    finished(app.queue.storage, [late.id], 30)
    assert app.queue.storage.errors(late.id)[0].type == "TaskTimeoutError"
