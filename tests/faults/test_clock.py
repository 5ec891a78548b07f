"""Workers, SQLite and Postgres while the store's clock is set forward and back."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.faults.clock import SetClock
from tests.faults.harness import Worker, finished, wait_until

HOUR, TEN_YEARS = 3_600_000, 315_576_000_000
SAID = "the store's clock was set back by"

Start = Callable[..., Worker]


@pytest.fixture
def app(clock_app: ModuleType) -> ModuleType:
    return clock_app


@pytest.fixture
def start(start_worker: Start, clock: SetClock) -> Start:
    return lambda procs=1: start_worker(procs=procs, app="clockapp:queue", **clock.env)


def ticks(worker: Worker) -> Counter[int]:
    """How often each slot has fired."""
    return Counter(int(line[1]) for line in worker.lines("tick"))


def ticks_go_on(worker: Worker, timeout: float = 20.0) -> None:
    """Wait until slots of the true time fire."""
    since = time.time() * 1000

    def after() -> int:
        return sum(1 for slot in ticks(worker) if since < slot <= time.time() * 1000)

    wait_until(lambda: after() >= 3, timeout, f"slots of now fire\n{worker.output()[-3000:]}")


@pytest.mark.parametrize("ahead", [HOUR, TEN_YEARS])
def test_a_clock_that_is_set_back_under_two_workers_stops_nothing_and_repeats_nothing(
    app: ModuleType, clock: SetClock, start: Start, ahead: int
) -> None:
    clock.ahead(ahead)
    workers = [start(), start()]
    wait_until(lambda: len(ticks(workers[0])) >= 2, 30)
    app.queue.storage.clock_shift = ahead
    running = [app.nap.delay(4).id for _ in workers]
    workers[0].started(2)
    waiting = [app.nap.delay(0).id for _ in range(5)] + [app.limited.delay().id for _ in range(10)]
    later = app.nap.apply_async((0,), delay=6).id
    failing = app.fails_once.delay().id

    clock.ahead(0)
    app.queue.storage.clock_shift = 0
    fresh = app.nap.delay(0).id

    finished(app.queue.storage, [*running, *waiting, later, failing, fresh], 25)
    ticks_go_on(workers[0])
    once = [*running, *waiting, later, fresh]
    assert workers[0].starts() == Counter([*once, failing, failing])
    assert max(ticks(workers[0]).values()) == 1
    jobs = app.queue.storage.get([*once, failing])
    assert {job.status.value for job in jobs} == {"complete"}
    assert max(job.completed_at for job in jobs) <= time.time() * 1000
    assert sum(worker.output().count(SAID) for worker in workers) == 1


@pytest.mark.parametrize("ahead", [HOUR, TEN_YEARS])
def test_a_clock_that_was_set_back_while_no_worker_ran_is_noticed_by_the_next(
    app: ModuleType, clock: SetClock, start: Start, ahead: int
) -> None:
    clock.ahead(ahead)
    first = start()
    wait_until(lambda: len(ticks(first)) >= 2, 30)
    first.signal(signal.SIGTERM)  # in good order: a tick that is killed would be run again
    first.wait()
    app.queue.storage.clock_shift = ahead
    waiting = [app.nap.delay(0).id for _ in range(3)]
    later = app.nap.apply_async((0,), delay=2).id
    app.queue.storage.clock_shift = 0
    clock.ahead(0)

    second = start()

    finished(app.queue.storage, [*waiting, later], 20)
    ticks_go_on(second)
    assert max(ticks(second).values()) == 1
    assert second.output().count(SAID) == 1


def test_a_clock_that_swings_by_a_second_is_no_matter(app: ModuleType, clock: SetClock, start: Start) -> None:
    worker = start()
    for ahead in (1_000, 0, 1_000, 0):
        before = len(ticks(worker))
        clock.ahead(ahead)
        wait_until(lambda before=before: len(ticks(worker)) >= before + 2, 20)

    ticks_go_on(worker)
    assert max(ticks(worker).values()) == 1
    assert SAID not in worker.output()


def test_a_clock_that_jumps_forward_and_back_again_and_again_costs_no_job_that_runs(
    app: ModuleType, clock: SetClock, start: Start
) -> None:
    workers = [start(2), start(2)]
    storage = app.queue.storage
    ids = [app.nap.delay(7).id for _ in range(2)]
    workers[0].started(2)

    for ahead in (HOUR, 0, 2 * HOUR, HOUR // 2, 0):
        storage.clock_shift = ahead
        clock.ahead(ahead)
        ids += [app.nap.delay(0).id, app.nap.apply_async((0,), delay=1).id, app.fails_once.delay().id]
        before = len(ticks(workers[0]))
        wait_until(lambda before=before: len(ticks(workers[0])) >= before + 2, 20)

    finished(storage, ids, 40)
    ticks_go_on(workers[0])
    assert {job.status.value for job in storage.get(ids)} == {"complete"}
    twice = {job.id for job in storage.get(ids) if job.retry_count}
    assert workers[0].starts() == Counter([*ids, *twice])
    assert max(ticks(workers[0]).values()) == 1
    assert sum(worker.output().count(SAID) for worker in workers) <= 3
