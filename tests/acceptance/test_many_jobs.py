"""The promise of the whole: thousands of jobs, each run exactly once, every result right."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.load import Load, nothing

MANY = pytest.param(20_000, id="20000", marks=[pytest.mark.faults, pytest.mark.timeout(300)])
SIZES = [pytest.param(3_000, id="3000"), MANY]


def outputs(*workers):
    return "\n".join(worker.output()[-2000:] for worker in workers)


# The short version is the one with failures in between, below.
@pytest.mark.parametrize("count", [MANY])
def test_every_job_runs_once_and_its_result_is_right(app, start_worker, count):
    worker = start_worker(procs=2)

    load = Load(app, count)
    load.finish(count / 100, lambda: outputs(worker))

    rows = load.check(worker.starts(), nothing)
    assert all(row.retry_count == row.crashes == row.interruptions == 0 for row in rows)


@pytest.mark.parametrize("count", SIZES)
def test_two_workers_share_the_jobs_and_none_runs_twice(app, start_worker, count):
    first, second = start_worker(procs=2), start_worker(procs=2)

    load = Load(app, count)
    load.finish(count / 100, lambda: outputs(first, second))

    rows = load.check(first.starts(), nothing)
    assert all(row.retry_count == row.crashes == row.interruptions == 0 for row in rows)
    assert len({row.worker for row in rows}) == 2


@pytest.mark.parametrize("count", SIZES)
def test_failures_in_between_are_retried_and_disturb_nobody(app, start_worker, count):
    worker = start_worker(procs=2)

    load = Load(app, count, failures=200)
    load.finish(count / 100, lambda: outputs(worker))

    starts = worker.starts()
    rows = load.check(starts, nothing)
    assert {row.id for row in rows if row.retry_count} == load.failing
    assert {job_id for job_id, runs in starts.items() if runs == 2} == load.failing
    assert all(len(app.queue.storage.errors(job_id)) == 1 for job_id in list(load.failing)[:20])


def test_a_retry_in_an_idle_worker_begins_when_it_is_due(app, start_worker):
    worker = start_worker(procs=2)
    began = time.monotonic()

    results = [app.flaky.delay(number, 2).result(30) for number in range(10)]

    # Twenty retries, due after hundredths of a second; found only by the polling they would take 20 to 100 s.
    assert time.monotonic() - began < 10
    assert results == [number**2 for number in range(10)]
    assert set(worker.starts().values()) == {3}
