"""When the supervisor or the zygote is killed: nothing is left, nothing is lost."""

from __future__ import annotations

import os
import signal

import pytest

from taskito_core.job import JobStatus
from tests.faults.harness import finished, in_session, wait_until


@pytest.mark.parametrize("task", ["nap", "spin_in_c"])
def test_with_the_supervisor_all_its_processes_end_at_once(app, start_worker, task):
    worker = start_worker()
    getattr(app, task).delay(*([60] if task == "nap" else []))
    worker.started(1)

    worker.signal(signal.SIGKILL)

    worker.wait(10)
    wait_until(lambda: not in_session(worker.pid), 5, "no process is left")


def test_another_worker_on_the_host_takes_the_jobs_over_at_once_and_uncharged(app, start_worker):
    first = start_worker()
    jobs = app.nap.map([8.0] * 4)
    first.started(2)
    start_worker()
    first.started(4, 6)
    ids = [job.id for job in jobs]
    owner = next(info.id for info in app.queue.workers() if info.pid == first.pid)
    taken = {row.id for row in app.queue.storage.get(ids) if row.worker == owner}

    first.signal(signal.SIGKILL)

    # Far less than the lease of 30 s: it is the end of the lifeline that tells.
    assert [job.result(25) for job in jobs] == ["rested"] * 4
    rows = app.queue.storage.get(ids)
    assert {row.id for row in rows if row.interruptions} == taken
    assert all(row.retry_count == row.crashes == 0 for row in rows)


def test_jobs_that_had_not_begun_are_rescued_too(app, start_worker):
    worker = start_worker(procs=1)
    for job in app.square.map(range(30)):
        job.result(30)
    blocker = app.nap.delay(60)
    worker.started(31)
    jobs = app.square.map(range(20))

    worker.signal(signal.SIGKILL)
    worker.wait(10)
    start_worker(procs=2)

    assert [job.result(30) for job in jobs] == [n * n for n in range(20)]
    assert all(row.retry_count == 0 for row in app.queue.storage.get([job.id for job in jobs]))
    assert app.queue.storage.get([blocker.id])[0].status is JobStatus.RUNNING


def test_without_the_zygote_children_live_on_and_new_ones_come(app, start_worker):
    worker = start_worker()
    job = app.nap.delay(1.0)
    worker.started(1)
    before = worker.job_children()

    os.kill(worker.zygote(), signal.SIGKILL)

    assert job.result(20) == "rested"
    assert worker.job_children() == before
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(worker.job_children()) == 2 and before[0] not in worker.job_children(), 20)
    assert app.add.delay(2, 3).result(20) == 5


def test_a_kill_in_the_middle_of_settling_records_each_job_once(app, start_worker):
    worker = start_worker()
    jobs = app.square.map(range(2000))
    worker.started(200)

    worker.kill_everything()
    start_worker()

    finished(app.queue.storage, [job.id for job in jobs], 90)
    assert [job.result(5) for job in jobs] == [n * n for n in range(2000)]
    runs = worker.starts()
    rows = {row.id: row for row in app.queue.storage.get([job.id for job in jobs])}
    assert all(count <= 1 + rows[job_id].interruptions for job_id, count in runs.items())
    assert all(row.status is JobStatus.COMPLETE for row in rows.values())


@pytest.mark.faults
def test_a_supervisor_stopped_beyond_its_lease_is_fenced_and_goes_on(app, start_worker):
    first = start_worker()
    jobs = app.nap.map([2.0] * 2)
    first.started(2)
    first.signal(signal.SIGSTOP)
    wait_until(lambda: len(first.lines("end")) == 2, 10)

    start_worker()
    finished(app.queue.storage, [job.id for job in jobs], 90)
    first.signal(signal.SIGCONT)

    assert [job.result(10) for job in jobs] == ["rested"] * 2
    wait_until(lambda: "holds this worker for dead" in first.output(), 30)
    assert set(first.starts().values()) == {2}
    for row in app.queue.storage.get([job.id for job in jobs]):
        assert (row.interruptions, row.status) == (1, JobStatus.COMPLETE)
    more = app.square.map(range(50))
    assert [job.result(30) for job in more] == [n * n for n in range(50)]
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
