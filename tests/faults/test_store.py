"""The store goes away, fills up, or is cut off from one worker: jobs go on, and each outcome is kept once."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from taskito_core.job import JobStatus
from tests.acceptance.load import Load, fenced, nothing
from tests.faults.harness import wait_until
from tests.faults.outage import LockedSqlite, SmallDisk, StoppedPostgres, Store, postgres_on, sqlite_on
from tests.faults.proxy import Wire
from tools.private_postgres import Server

# Made before any test looks for what it leaves behind.
pytestmark = pytest.mark.usefixtures("restartable_server")


@pytest.fixture
def stopped_postgres(restartable_server: Server) -> Iterator[StoppedPostgres]:
    restartable_server.ensure_running()
    store = StoppedPostgres(restartable_server)
    yield store
    store.drop()


@pytest.fixture
def locked_sqlite(sqlite_path) -> Iterator[LockedSqlite]:
    store = LockedSqlite(sqlite_path)
    yield store
    store.come_back()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store on each backend in turn, that can be taken away."""
    names = {"sqlite": "locked_sqlite", "postgres": "stopped_postgres"}
    found: Store = request.getfixturevalue(names[request.param])
    return found


@pytest.fixture
def backend_url(store: Store) -> str:
    return store.url


def long(*values: object, timeout: int = 300) -> object:
    """A case for ``make faults`` only."""
    return pytest.param(*values, marks=[pytest.mark.faults, pytest.mark.timeout(timeout)])


# ---- away for everybody ----


@pytest.mark.parametrize(
    ("count", "absences"),
    [(3_000, ["fast", "immediate"]), long(20_000, ["fast", "immediate", "fast", "immediate"])],
)
def test_a_restart_in_the_middle_loses_nothing(app, start_worker, store, count, absences):
    # A file has no server to restart: that another process holds it for a moment is its restart.
    worker = start_worker(procs=2)
    load = Load(app, count)

    for number, mode in enumerate(absences, 1):
        worker.started(count * number // (len(absences) + 1), 120)
        store.go_away(mode)
        store.come_back()
    load.finish(120, worker.output)

    dropped = fenced([worker])
    rows = load.check(worker.starts(), lambda row: row.interruptions + dropped[row.id])
    assert not any(row.crashes or row.retry_count for row in rows)


@pytest.mark.parametrize("seconds", [2.0, long(20.0), long(60.0)])
def test_jobs_go_on_while_the_store_is_away_and_none_is_run_again(app, start_worker, store, seconds):
    first, second = start_worker(procs=2), start_worker(procs=2)
    jobs = [app.nap.delay(length) for length in (seconds / 2, seconds / 2, seconds + 2, seconds + 2)]
    first.started(4)
    waiting = app.square.map(range(20))

    store.go_away()
    back_at = time.monotonic() + seconds
    wait_until(lambda: len(first.lines("end")) == 2, seconds, "jobs end while the store is away")
    wait_until(lambda: time.monotonic() > back_at, seconds + 5)
    store.come_back()

    assert [job.result(60) for job in jobs] == ["rested"] * 4
    assert [job.result(60) for job in waiting] == [n * n for n in range(20)]
    assert set(first.starts().values()) == {1}
    rows = app.queue.storage.get([job.id for job in (*jobs, *waiting)])
    assert all(row.interruptions == row.crashes == row.retry_count == 0 for row in rows)
    for worker in (first, second):
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert "is dead" not in worker.output()


@pytest.mark.faults
def test_a_worker_told_to_stop_waits_for_the_store_with_its_results(app, start_worker, store):
    worker = start_worker(procs=2)
    jobs = app.nap.map([1.0, 1.0])
    worker.started(2)

    store.go_away()
    worker.signal(signal.SIGTERM)
    wait_until(lambda: len(worker.lines("end")) == 2, 20)
    store.come_back()

    assert worker.wait() == 0
    assert [job.result(10) for job in jobs] == ["rested"] * 2
    assert set(worker.starts().values()) == {1}


@pytest.mark.faults
def test_what_could_not_be_recorded_before_the_end_is_taken_over_at_once(app, start_worker, store):
    worker = start_worker("--graceful-timeout", "0", procs=1)
    job = app.nap.delay(0.5)
    worker.started(1)

    store.go_away()
    worker.signal(signal.SIGTERM)
    told = time.monotonic()
    assert worker.wait() == 1
    assert time.monotonic() - told < 10
    store.come_back()
    start_worker(procs=1)

    # Less than the lease: the neighbour sees that nobody of the first one is left.
    assert job.result(20) == "rested"
    [row] = app.queue.storage.get([job.id])
    assert (row.interruptions, row.crashes, row.retry_count) == (1, 0, 0)


def test_a_worker_without_a_store_gives_up_when_its_patience_ends(app, start_worker, store):
    app.queue.storage.migrate()
    app.queue.close()
    store.go_away()

    worker = start_worker("--boot-timeout", "5", procs=0)

    assert worker.wait(30) == 4
    assert "the store did not answer within 5 s" in worker.output()
    worker.nothing_left()


def test_a_worker_waits_for_a_store_that_appears_later(app, start_worker, store):
    job = app.add.delay(2, 3)
    app.queue.close()
    store.go_away()

    worker = start_worker("--boot-timeout", "50", procs=2)
    asked_since = time.monotonic()
    wait_until(lambda: worker.exited() or time.monotonic() > asked_since + 1.5)
    assert not worker.exited(), worker.output()
    store.come_back()

    assert job.result(30) == 5


# ---- away for one worker ----


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["refused", "silent"])
# A file has no network in between: whoever is cut off from it is cut off from the machine.
@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_worker_cut_off_for_longer_than_its_lease_is_fenced(app, start_worker, store, how):
    with Wire(store.url) as wire:
        first = start_worker(procs=3, url=wire.url)
        jobs = [app.nap.delay(length) for length in (20.0, 20.0, 50.0)]
        first.started(3)
        second = start_worker(procs=3)

        wire.cut(how)
        first.started(6, 90)
        assert len(first.lines("end")) == 2
        wire.mend()

        assert [job.result(90) for job in jobs] == ["rested"] * 3
        wait_until(lambda: "holds this worker for dead" in first.output(), 30)
        rows = app.queue.storage.get([job.id for job in jobs])
        assert [row.interruptions for row in rows] == [1, 1, 1]
        assert set(first.starts().values()) == {2}
        # What ended on the first was dropped and counted; what still ran there was ended.
        wait_until(lambda: fenced([first]) == Counter(job.id for job in jobs[:2]), 20)
        assert Counter(line[1] for line in first.lines("end"))[jobs[2].id] == 1
        [taker] = {row.worker for row in rows}
        assert next(info.pid for info in app.queue.workers() if info.id == taker) == second.pid

        second.signal(signal.SIGTERM)
        assert second.wait() == 0
        assert [job.result(30) for job in app.square.map(range(50))] == [n * n for n in range(50)]
        first.signal(signal.SIGTERM)
        assert first.wait() == 0


# ---- full ----


@pytest.fixture(params=["sqlite", "postgres"])
def small(request: pytest.FixtureRequest, restartable_server: Server) -> Iterator[tuple[SmallDisk, str]]:
    """A disk that can be filled, and an empty store on it."""
    disk = SmallDisk(16 if request.param == "sqlite" else 64)
    restartable_server.ensure_running()
    with contextlib.ExitStack() as stack:
        stack.callback(disk.remove)
        opened = sqlite_on(disk) if request.param == "sqlite" else postgres_on(disk, restartable_server)
        yield disk, stack.enter_context(opened)


class TestFullDisk:
    @pytest.fixture
    def backend_url(self, small: tuple[SmallDisk, str]) -> str:
        return small[1]

    def test_results_wait_for_room_on_a_full_disk_and_jobs_go_on(self, app, start_worker, small):
        disk, _ = small
        worker = start_worker(procs=2)
        assert app.nap_then_big.delay(0, 1000).result(30) == b"x" * 1000
        jobs = [app.nap_then_big.delay(seconds, 1_000_000) for seconds in (0.7, 2.0)]
        worker.started(3)

        disk.fill()
        # The first result meets the full disk, while the other job runs on.
        wait_until(lambda: "the store does not answer" in worker.output(), 20, "the disk is full")
        wait_until(lambda: len(worker.lines("end")) == 3, 20, "jobs go on")
        assert {row.status for row in app.queue.storage.get([job.id for job in jobs])} == {JobStatus.RUNNING}
        disk.free()

        assert [job.result(30) for job in jobs] == [b"x" * 1_000_000] * 2
        assert app.square.delay(7).result(30) == 49
        assert set(worker.starts().values()) == {1}
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


# ---- several workers from the first moment ----


def test_workers_started_in_the_same_instant_run_each_job_once(app, start_worker):
    load = Load(app, 500)

    workers = [start_worker("--procs", "2", procs=0) for _ in range(3)]
    load.finish(60, lambda: "\n".join(worker.output() for worker in workers))

    load.check(workers[0].starts(), nothing)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0, 0]
