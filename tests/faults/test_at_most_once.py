"""With max_retries=0 and max_crashes=0 a job that may have begun is never begun again, whatever happens."""

from __future__ import annotations

import signal

import pytest

from taskito import TaskFailedError
from taskito_core.job import DeadReason, JobStatus
from tests.faults.harness import finished, wait_until


def letters(app):
    """The reason of each dead letter, by job."""
    return {letter.job_id: letter.reason for letter in app.queue.storage.dead_letters(100, None).letters}


def test_a_job_that_may_not_crash_is_dead_after_its_first_crash(app, start_worker):
    worker = start_worker()
    jobs = [app.once.delay(what) for what in ("kill", "segfault", "exit")]
    others = app.square.map(range(50))

    for job in jobs:
        with pytest.raises(TaskFailedError):
            job.result(60)

    assert [other.result(20) for other in others] == [n * n for n in range(50)]
    assert [worker.starts()[job.id] for job in jobs] == [1, 1, 1]
    assert [row.crashes for row in app.queue.storage.get([job.id for job in jobs])] == [1, 1, 1]
    assert letters(app) == {job.id: DeadReason.CRASHES for job in jobs}


def test_a_queue_says_it_for_its_tasks_and_a_task_for_itself(app, start_worker):
    worker = start_worker(TASKITO_MAX_CRASHES="0")
    of_the_queue, of_the_task = app.die.delay(int(signal.SIGKILL), True), app.once_more.delay()

    finished(app.queue.storage, [of_the_queue.id, of_the_task.id])

    assert (worker.starts()[of_the_queue.id], worker.starts()[of_the_task.id]) == (1, 2)
    assert set(letters(app).values()) == {DeadReason.CRASHES}


def test_what_ended_well_or_raised_is_not_changed_by_it(app, start_worker):
    worker = start_worker()
    good, bad = app.once.delay("nap", 0.1), app.once.delay("raise")

    assert good.result(30) == "done"
    with pytest.raises(TaskFailedError, match="on purpose"):
        bad.result(30)
    assert (worker.starts()[good.id], worker.starts()[bad.id]) == (1, 1)


def test_with_its_worker_it_dies_while_others_are_run_again(app, start_worker):
    first = start_worker()
    job, other = app.once.delay("nap"), app.nap.delay(3.0)
    first.started(2)

    first.signal(signal.SIGKILL)
    first.wait(10)
    start_worker()

    with pytest.raises(TaskFailedError, match="interrupted"):
        job.result(60)
    assert other.result(60) == "rested"
    assert (first.starts()[job.id], first.starts()[other.id]) == (1, 2)
    assert letters(app) == {job.id: DeadReason.INTERRUPTIONS}


@pytest.mark.parametrize("what", ["nap", "swallow"])
def test_a_shutdown_that_breaks_it_off_ends_it(app, start_worker, what):
    worker = start_worker("--graceful-timeout", "1")
    job, other = app.once.delay(what), app.nap.delay(60)
    worker.started(2)

    worker.signal(signal.SIGTERM)

    assert worker.wait(20) == 75
    wait_until(lambda: worker.lines("swallowed"), 10)
    assert letters(app) == {job.id: DeadReason.INTERRUPTIONS}
    [row] = app.queue.storage.get([job.id])
    assert (row.status, row.error) == (JobStatus.DEAD, "WorkerShutdown: the worker could not wait for it")
    assert other.status is JobStatus.PENDING


def test_a_shutdown_that_waits_for_it_and_one_that_had_not_begun_do_no_harm(app, start_worker):
    worker = start_worker(procs=1)
    running = app.once.delay("nap", 1.5)
    worker.started(1)
    waiting = [app.once.delay("nap", 0.0) for _ in range(5)]

    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert running.result(0) == "done"
    start_worker()

    assert [job.result(30) for job in waiting] == ["done"] * 5
    assert set(worker.starts().values()) == {1}
