"""Several workers share what waits: no child is idle while a job waits in another worker."""

from __future__ import annotations

import pytest

from .conftest import LONG

#: Seconds between the first start and the last of jobs that all could begin at once.
AT_ONCE = 0.5


def begun(worker, name: str) -> list[float]:
    """When the jobs of this name have begun, in order."""
    return sorted(float(line[2]) for line in worker.lines("timed") if line[1] == name)


@pytest.mark.parametrize("before", ["nothing", "short jobs of another task", "short jobs of the same task"])
def test_as_many_jobs_as_children_begin_at_once_whichever_worker_claims_them(app, start, wait_until, before):
    for _ in range(3):
        worker = start(procs=2)
    if before == "short jobs of another task":
        assert len([job.result(LONG) for job in app.free.map(range(600))]) == 600
    elif before == "short jobs of the same task":
        for job in app.timed.map([0.0] * 600):
            job.result(LONG)

    app.timed.map([3.0] * 6)

    wait_until(lambda: len(begun(worker, "3.0")) == 6)
    first, *_, last = begun(worker, "3.0")
    assert last - first < AT_ONCE


@pytest.mark.parametrize("before", ["nothing", "short jobs"])
def test_a_job_of_a_higher_priority_is_the_next_to_begin(app, start, wait_until, before):
    worker = start(procs=1)
    if before == "short jobs":
        assert len([job.result(LONG) for job in app.free.map(range(600))]) == 600
    app.timed.map([0.4] * 8)
    wait_until(lambda: len(worker.lines("timed")) == 1)

    app.timed.using(priority=10).delay(0.4, "high")

    wait_until(lambda: len(worker.lines("timed")) == 9)
    assert [line[1] for line in worker.lines("timed")].index("high") == 1
