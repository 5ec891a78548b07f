"""What can be done with a job while it runs: cancel it, hear from it, let it sleep, let it record itself."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import pytest

from taskito import JobStatus, TaskCancelledError

from .conftest import LONG


def test_a_running_job_that_looks_is_cancelled_when_it_is_asked(app, start):
    worker = start(procs=1)
    job = app.patient.delay(LONG)
    worker.started(1)

    assert app.queue.cancel_running_job(job.id)

    with pytest.raises(TaskCancelledError):
        job.result(LONG)
    assert job.status is JobStatus.CANCELLED
    assert app.nap.delay(0).result(LONG) == "rested"


def test_a_running_job_that_does_not_look_is_broken_into_by_force_only(app, start):
    worker = start(procs=1)
    job = app.deaf.delay(LONG)
    worker.started(1)

    assert app.queue.cancel_running_job(job.id, force=True)

    with pytest.raises(TaskCancelledError):
        job.result(LONG)
    assert worker.lines("broken") == [["broken", job.id]]


def test_a_pending_job_is_cancelled_at_once_and_never_runs(app, start):
    job = app.nap.delay(0)

    assert job.cancel()
    worker = start(procs=1)

    assert app.nap.delay(0).result(LONG) == "rested"
    assert job.status is JobStatus.CANCELLED
    assert job.id not in worker.starts()


def test_a_job_asked_to_cancel_while_the_worker_drains_is_cancelled(app, start):
    worker = start("--graceful-timeout", "20", procs=1)
    job = app.patient.delay(LONG)
    worker.started(1)
    worker.signal(signal.SIGINT)

    assert app.queue.cancel_running_job(job.id)

    assert worker.wait() == 0
    assert job.status is JobStatus.CANCELLED


def test_the_log_of_a_job_is_complete_when_its_result_is_there(app, start):
    start(procs=2)

    job = app.talk.delay(300)
    assert job.result(LONG) == 300

    entries = app.queue.task_logs(job.id)
    assert [entry.message for entry in entries] == [f"line {number}" for number in range(300)]
    assert [entry.level for entry in entries[:2]] == ["info", "warning"]
    assert job.refresh().progress == 40


def test_progress_is_seen_while_the_job_runs(app, start, wait_until):
    start(procs=1)

    job = app.half_way.delay(3)

    wait_until(lambda: job.refresh().progress == 50)
    assert job.status is JobStatus.RUNNING
    assert job.result(LONG) == "done"


def test_partial_results_arrive_in_order_while_the_job_runs(app, start):
    start(procs=1)

    job = app.count_up.delay(20)

    assert [part["number"] for part in job.stream(timeout=LONG)] == list(range(20))
    assert job.result(LONG) == 20
    assert job.refresh().progress == 100


def test_a_snoozed_job_runs_again_later_and_nothing_is_charged(app, start):
    start(procs=1)

    job = app.sleepy.delay(3)

    assert job.result(LONG) == 4
    assert job.errors == []
    assert job.to_dict()["retry_count"] == 0


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_and_its_own_writes_are_recorded_together_or_not_at_all(
    fails, tmp_path, sqlite_path, sqlite_url, monkeypatch, start
):
    from pathlib import Path

    from tests.faults.conftest import load

    monkeypatch.setenv("TASKITO_DB_URL", sqlite_url)
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    with load(Path(__file__).with_name("jobsapp.py")) as app:
        start(procs=1, url=sqlite_url)

        job = app.record.using(max_retries=1).delay(str(sqlite_path), fails)

        assert job.result(LONG) == "recorded"
        assert len(job.errors) == (1 if fails else 0)
    with closing(sqlite3.connect(sqlite_path)) as connection:
        assert connection.execute("SELECT job FROM written").fetchall() == [(job.id,)]
