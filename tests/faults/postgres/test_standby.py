"""Commits wait for a synchronous standby: what goes on while it is away, and what a promotion may lose."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from taskito import Queue
from taskito_core.errors import StorageUnavailable
from tests.faults.harness import Worker, wait_until
from tests.faults.proxy import Wire
from tools.postgres_pair import Pair

# Made before any test looks for what it leaves behind.
pytestmark = [pytest.mark.usefixtures("pair"), pytest.mark.timeout(240)]


@pytest.fixture
def url(pair: Pair) -> Iterator[str]:
    """A database whose commits wait for the standby."""
    made = pair.primary.new_database("taskito_test")
    pair.demand_standby()
    wait_until(pair.is_demanded)
    yield made
    pair.demand_standby(False)
    if not pair.standby.running:
        pair.standby.start()
    pair.primary.drop_database(made)


@pytest.fixture
def backend_url(url: str) -> str:
    """For a producer that does not wait."""
    return f"{url}?options=-csynchronous_commit%3Dlocal"


def beat_of(queue: Queue, worker: Worker) -> int:
    [info] = [each for each in queue.workers() if each.pid == worker.pid]
    assert info.status == "alive", worker.output()
    return info.beat


def waits_for_standby(pair: Pair) -> bool:
    return bool(pair.primary.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))


def test_a_worker_whose_commit_waits_for_a_standby_beats_and_says_so(app, start_worker, url, pair):
    worker = start_worker(procs=2, url=url)
    long = app.nap.delay(12.0)
    worker.started(1)
    pair.standby.stop()
    jobs = [app.nap.delay(0.0) for _ in range(10)]
    wait_until(lambda: waits_for_standby(pair))
    before = beat_of(app.queue, worker)

    wait_until(lambda: beat_of(app.queue, worker) >= before + 3, 40, "it beats")

    assert waits_for_standby(pair), "the commit still waits"
    wait_until(lambda: "for a synchronous standby to confirm it" in worker.output())
    pair.standby.start()
    assert [job.result(30) for job in [long, *jobs]] == ["rested"] * 11
    assert set(worker.starts().values()) == {1}
    assert beat_of(app.queue, worker) > before


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_ends_within_its_grace_while_the_standby_is_away(app, start_worker, url, pair, busy):
    worker = start_worker("--graceful-timeout", "3", procs=1, url=url)
    assert app.nap.delay(0.0).result(30) == "rested"
    job = app.nap.delay(1.0) if busy else None
    worker.started(2 if busy else 1)
    pair.standby.stop()
    if busy:
        wait_until(lambda: waits_for_standby(pair))

    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    code = worker.wait(30)

    assert time.monotonic() - began < (10.0 if busy else 5.0), worker.output()
    assert code == (1 if busy else 0)
    pair.standby.start()
    if job is not None:
        assert job.result(30) == "rested"
        assert worker.starts()[job.id] == 1


def test_a_worker_starts_while_the_standby_is_away_and_works_when_it_is_back(app, start_worker, url, pair):
    app.queue.storage.migrate()
    pair.standby.stop()
    worker = start_worker(procs=1, url=url)
    job = app.nap.delay(0.0)
    wait_until(lambda: len(app.queue.workers()) == 1)
    wait_until(lambda: waits_for_standby(pair))
    assert worker.starts()[job.id] == 0, "a claim that a promotion may undo is not begun"

    pair.standby.start()

    assert job.result(30) == "rested"


@pytest.mark.faults
def test_a_worker_that_waits_for_a_standby_longer_than_its_lease_keeps_its_job(app, start_worker, url, pair):
    worker = start_worker(procs=2, url=url)
    watcher = start_worker("--queues", "elsewhere", procs=1, url=url)
    long = app.nap.delay(60.0)
    worker.started(1)
    pair.standby.stop()
    jobs = [app.nap.delay(0.0) for _ in range(10)]
    wait_until(lambda: waits_for_standby(pair))
    stopped = time.monotonic()

    wait_until(lambda: time.monotonic() - stopped > 45, 60, "longer than the lease")
    pair.standby.start()

    assert [job.result(60) for job in [long, *jobs]] == ["rested"] * 11
    assert set(worker.starts().values()) == {1}
    assert "is dead" not in watcher.output()
    assert "registers anew" not in worker.output()


@pytest.mark.parametrize("work", ["busy", "sparse"])
def test_a_promotion_under_a_synchronous_standby_loses_nothing_acknowledged_and_runs_nothing_twice(
    app, start_worker, url, pair, work
):
    acknowledged: list[str] = []
    stop = threading.Event()
    with Wire(url) as wire, Queue(db_url=wire.url) as producer:
        task = producer.task(name=app.nap.name)(lambda seconds: seconds)
        worker = start_worker(procs=6, url=wire.url)
        # Sparse: a claim travels alone, and nothing that follows takes it to the disk soon.
        pause, seconds, count = (0.002, 0.01, 60) if work == "busy" else (0.25, 1.0, 12)

        def produce() -> None:
            while not stop.wait(pause):
                try:
                    acknowledged.append(task.delay(seconds).id)
                except StorageUnavailable:
                    stop.wait(0.1)

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            worker.started(count)
            pair.fail_over()
            before = set(acknowledged)
            wire.move(pair.primary.url())
            wait_until(lambda: acknowledged[-1] not in before, 60, "the producer goes on")
            moved = len(acknowledged)
            wait_until(lambda: len(acknowledged) > moved + 5, 30)
        finally:
            stop.set()
            thread.join(60)

        def left() -> int:
            stats = producer.stats()
            return stats["pending"] + stats["running"]

        wait_until(lambda: left() == 0, 90, "all is done")
        rows = producer.storage.get(acknowledged)
        assert [row.status for row in rows] == ["complete"] * len(acknowledged)
        starts = worker.starts()
        assert {job_id: starts[job_id] for job_id in acknowledged} == dict.fromkeys(acknowledged, 1)
        worker.kill_everything()  # before the wire is gone
    pair.renew_standby()
