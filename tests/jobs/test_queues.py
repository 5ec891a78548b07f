"""Named queues over real workers: each has its turn, and a pause is kept in the store."""

from __future__ import annotations

import time

import pytest

from taskito import JobStatus, Queue, TaskitoError, current_job

from .conftest import LONG


def test_a_full_queue_does_not_starve_the_others(app, start):
    start("--queues", "full,rare", procs=1)
    app.nap.using(queue="full").map([0.05] * 400)

    rare = app.free.using(queue="rare").map(range(3))

    assert [job.result(LONG) for job in rare] == [0, 1, 2]
    assert app.queue.stats_by_queue()["full"]["pending"] > 100


def test_a_pause_holds_over_restarts_until_it_is_ended(app, start):
    app.queue.pause("default")
    waiting = app.free.delay(1)

    for number in range(2):
        worker = start("--queues", "default,other", procs=1)
        assert app.free.using(queue="other").delay(number).result(LONG) == number
        assert waiting.refresh().status is JobStatus.PENDING
        worker.kill_everything()

    start("--queues", "default,other", procs=1)
    app.queue.resume("default")
    assert waiting.result(LONG) == 1


def test_a_task_in_a_thread_that_asks_for_its_soft_limit_is_told(backend_url):
    with Queue(db_url=backend_url, workers=1) as queue:

        @queue.task(name="patient", soft_timeout=0.2, timeout=0, max_retries=0)
        def patient() -> None:
            current_job.check_timeout()
            while True:
                time.sleep(0.01)
                current_job.check_timeout()

        with queue.embedded_worker():
            job = patient.delay()
            with pytest.raises(TaskitoError):
                job.result(LONG)

        assert [error.type.rpartition(".")[2] for error in queue.job_errors(job.id)] == ["SoftTimeoutError"]
