"""A task group ends in one exception that holds others: what is said of those holds for it."""

from __future__ import annotations

import pytest

from taskito import JobStatus, MaxRetriesExceededError, TaskFailedError

from .conftest import LONG


def test_a_group_is_retried_as_its_members_would_be(app, start):
    cases = [
        (app.only_some, "ConnectionError", 3),
        (app.only_some, "ConnectionError KeyError", 3),
        (app.only_some, "ConnectionError (KeyError TimeoutError)", 3),
        (app.only_some, "ConnectionError ValueError", 1),
        (app.only_some, "ConnectionError (KeyError ValueError)", 1),
        (app.all_but, "ValueError UnicodeError", 1),
        (app.all_but, "ValueError (FileNotFoundError)", 1),
        (app.all_but, "ValueError KeyError", 3),
        (app.all_but, "ConnectionError", 3),
    ]
    worker = start(procs=2)

    jobs = [task.delay(names) for task, names, _ in cases]

    for job, (_, _, runs) in zip(jobs, cases, strict=True):
        with pytest.raises(TaskFailedError) as failed:
            job.result(LONG)
        assert (type(failed.value) is MaxRetriesExceededError) is (runs == 3)
    assert [worker.starts()[job.id] for job in jobs] == [runs for _, _, runs in cases]


def test_a_job_that_snoozes_in_a_task_group_is_run_again_later_uncharged(app, start):
    worker = start(procs=1)

    job = app.sleepy_together.delay(3, fails=False)

    assert job.result(LONG) == 3
    assert worker.starts()[job.id] == 2
    assert app.queue.storage.get([job.id])[0].retry_count == 0
    assert job.errors == []


def test_a_failure_beside_a_snooze_is_a_failure(app, start):
    start(procs=1)

    job = app.sleepy_together.delay(2, fails=True)

    with pytest.raises(TaskFailedError, match="sub-exception"):
        job.result(LONG)
    assert job.status is JobStatus.DEAD
