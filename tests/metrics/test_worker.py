"""From a task in a real worker to ``queue.metrics()``, on both backends."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from types import ModuleType

import pytest

from conftest import WaitUntil
from taskito import ConfigError, Queue, TaskFailedError, TaskMetrics, TaskTimeoutError
from tests.faults.harness import Worker

StartWorker = Callable[..., Worker]
MIB = 1024 * 1024


def metrics_of(queue: Queue, task_name: str) -> TaskMetrics | None:
    found = queue.metrics(task_name)
    return found[0] if found else None


def counted(queue: Queue, task_name: str, attempts: int) -> Callable[[], bool]:
    """Whether so many attempts of a task are in the metrics."""
    return lambda: (found := metrics_of(queue, task_name)) is not None and found.count >= attempts


def test_time_and_wait_of_a_task_that_sleeps_are_what_they_were(
    app: ModuleType, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    start_worker(procs=2)

    jobs = [app.nap.delay(0.2) for _ in range(10)]
    for job in jobs:
        job.result(60)
    wait_until(counted(app.queue, app.nap.name, 10))

    [nap] = app.queue.metrics(app.nap.name)
    assert (nap.count, nap.succeeded, nap.failed) == (10, 10, 0)
    assert nap.minimum >= 0.2
    assert nap.minimum <= nap.p50 <= nap.p95 <= nap.p99 <= nap.maximum
    # Two per cent for the sketch; what is beyond that is a machine that had no time to wake a sleeper.
    assert 0.2 * 0.98 <= nap.p50 <= 0.2 * 1.02 + 0.1
    assert nap.minimum <= nap.average <= nap.maximum
    # Ten naps for two children: the last pair waited for eight others, four naps long.
    assert 0.3 <= nap.average_wait <= 0.8 + 2.0


def test_the_peak_of_a_task_that_allocates_is_in_the_metrics(
    app: ModuleType, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    start_worker(procs=1)

    app.allocate.delay(64).result(60)
    app.nap.delay(0.01).result(60)
    wait_until(counted(app.queue, app.nap.name, 1))

    allocate, nap = metrics_of(app.queue, app.allocate.name), metrics_of(app.queue, app.nap.name)
    assert allocate is not None
    assert nap is not None
    assert 64 * MIB <= allocate.peak_memory < 64 * MIB + 200 * MIB
    # The same process ran it afterwards: what the other one had is not its own.
    assert 0 < nap.peak_memory < allocate.peak_memory - 50 * MIB


def test_failures_timeouts_and_crashes_count_as_failed_attempts(
    app: ModuleType, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    start_worker(procs=2)
    never = {"max_retries": 0}

    failing = app.flaky.using(**never).delay(1, 9)
    crashing = app.die.using(**never).delay(signal.SIGKILL, True)
    overrunning = app.nap.using(timeout=0.5, **never).delay(60)
    for job in (failing, overrunning, crashing):
        with pytest.raises((TaskFailedError, TaskTimeoutError)):
            job.result(60)
    wait_until(counted(app.queue, app.die.name, 3))
    wait_until(counted(app.queue, app.nap.name, 1))

    by_name = {found.task_name: found for found in app.queue.metrics()}
    assert [(by_name[t.name].succeeded, by_name[t.name].failed) for t in (app.flaky, app.nap)] == [(0, 1)] * 2
    # A crash is tried again, whatever max_retries says; each attempt counts.
    assert (by_name[app.die.name].succeeded, by_name[app.die.name].failed) == (0, 3)
    assert 0.5 <= by_name[app.nap.name].maximum < 20


def test_the_attempts_of_the_last_second_are_recorded_when_the_worker_ends(
    app: ModuleType, start_worker: StartWorker
) -> None:
    worker = start_worker(procs=1)
    app.add.delay(1, 2).result(60)

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    [found] = app.queue.metrics()
    assert (found.task_name, found.count) == (app.add.name, 1)


def test_thousands_of_attempts_of_two_workers_are_all_counted(
    app: ModuleType, start_worker: StartWorker
) -> None:
    workers = [start_worker(procs=1), start_worker(procs=1)]
    jobs = app.queue.enqueue_many([app.noop.spec() for _ in range(2000)])
    for job in jobs[::-1]:
        job.result(60)

    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0]

    [found] = app.queue.metrics(app.noop.name)
    assert (found.count, found.succeeded) == (2000, 2000)


def test_without_metrics_a_worker_keeps_nothing_and_works(app: ModuleType, start_worker: StartWorker) -> None:
    worker = start_worker(procs=1, TASKITO_METRICS="none")

    assert app.add.delay(1, 2).result(60) == 3

    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert app.queue.metrics() == []


def test_a_sink_that_is_away_costs_measurements_and_no_jobs(
    app: ModuleType, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    # Port 1 on loopback refuses at once.
    worker = start_worker(procs=1, TASKITO_METRICS="postgresql://somebody:hunter2@127.0.0.1:1/metrics")

    results = [app.add.delay(n, 1).result(60) for n in range(3)]
    wait_until(lambda: "metrics cannot be recorded" in worker.output())
    results += [app.add.delay(n, 1).result(60) for n in range(3, 6)]

    assert results == [1, 2, 3, 4, 5, 6]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.output().count("metrics cannot be recorded") == 1
    assert "hunter2" not in worker.output()


def test_an_embedded_worker_counts_time_and_knows_no_memory(backend_url: str) -> None:
    with Queue(db_url=backend_url, workers=2) as queue:
        task = queue.task(name="nap")(time.sleep)

        with queue.embedded_worker():
            for job in task.map([0.05] * 4):
                job.result(60)

        [found] = queue.metrics()
    assert (found.task_name, found.count, found.peak_memory) == ("nap", 4, 0)
    assert found.minimum >= 0.05


def test_what_was_asked_for_is_checked(backend_url: str) -> None:
    with Queue(db_url=backend_url) as queue:
        assert queue.metrics() == []
        for since in (-1, float("nan"), "an hour"):
            with pytest.raises(ConfigError, match="since must be a number of seconds"):
                queue.metrics(since=since)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="task_name must be text"):
            queue.metrics("")


def test_the_async_twin_has_the_same_answer(backend_url: str) -> None:
    async def main() -> None:
        async with Queue(db_url=backend_url) as queue:
            task = queue.task(name="t")(lambda: None)
            with queue.embedded_worker(threads=1):
                await (await task.adelay()).aresult(60)
            assert [found.task_name for found in await queue.ametrics("t", since=60)] == ["t"]

    asyncio.run(main())
