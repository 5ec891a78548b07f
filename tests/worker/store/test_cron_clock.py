"""Periodic tasks while the store's clock is set back: slots go on from there, and none fires twice."""

from __future__ import annotations

from collections import Counter

import pytest

from taskito_core.storage_client import JobFilter
from taskito_testing.factories import make_entry
from tests.worker.store.test_cron import APP, HOURLY, SECONDLY, Stopped, storage, version

__all__ = ["storage"]  # the fixture
HOUR = 3_600


def run(worker, storage, seconds):
    """Time passes, second by second."""
    for _ in range(seconds):
        storage.wait(1)
        worker.fire(storage)


def prune(storage):
    """Delete every job, as a short ``result_ttl`` does."""
    jobs = storage.list_jobs(JobFilter(), 5_000, None).jobs
    slots = [job.scheduled_at // 1000 for job in jobs]
    storage.cancel([job.id for job in jobs], "test")
    storage.delete([job.id for job in jobs])
    return slots


@pytest.mark.parametrize("ahead", [HOUR, 10 * 365 * 24 * HOUR])
@pytest.mark.parametrize("catch_up", ["skip", "one"])
def test_slots_go_on_by_the_clock_that_was_set_back(storage, ahead, catch_up):
    worker = version(make_entry(cron=SECONDLY, catch_up=catch_up))
    worker.fire(storage)
    noon = storage.moment // 1000
    run(worker, storage, 2)
    storage.wait(ahead)
    run(worker, storage, 3)
    prune(storage)

    storage.wait(-ahead)
    pause = worker.fire(storage)
    run(worker, storage, 2)

    assert pause == 1  # the slot of this very second was fired
    assert sorted(slot - noon for slot in prune(storage)) == [5, 6, 7]


def test_a_slot_that_fired_ahead_does_not_fire_again_when_its_time_comes(storage):
    worker = version(make_entry(cron=SECONDLY))
    worker.fire(storage)
    noon = storage.moment // 1000
    storage.wait(20)
    run(worker, storage, 3)  # 21, 22, 23
    fired = Counter(prune(storage))

    storage.wait(-20)
    for _ in range(30):
        run(worker, storage, 1)
        fired.update(prune(storage))

    assert fired == Counter(noon + second for second in range(4, 34))


@pytest.mark.parametrize("cron", [SECONDLY, HOURLY])
def test_a_worker_that_starts_after_the_clock_was_set_back_finds_the_next_slot(storage, cron):
    storage.wait(2 * HOUR)
    before = version(make_entry(cron=cron))
    before.fire(storage)
    run(before, storage, 2)
    prune(storage)
    storage.wait(-2 * HOUR)

    version(make_entry(cron=cron)).fire(storage)

    [state] = storage.periodic()
    assert state.next_run - storage.moment == (1_000 if cron == SECONDLY else (HOUR - 2) * 1000)


def test_of_two_workers_each_slot_is_fired_by_one(storage):
    workers = [version(make_entry(cron=SECONDLY)) for _ in range(2)]
    fired = Counter[int]()
    for passes in (1, 1, 30, 1, 1, -29, *[1] * 40):
        storage.wait(passes)
        for worker in workers:
            worker.fire(storage)
        fired.update(prune(storage))

    assert set(fired.values()) == {1}
    assert storage.moment // 1000 in fired


def test_a_paused_task_stays_as_it_is(storage):
    worker = version(make_entry(cron=SECONDLY))
    storage.wait(HOUR)
    worker.fire(storage)
    storage.enable_periodic("every minute", False, None)
    [before] = storage.periodic()

    storage.wait(-HOUR)
    worker.fire(storage)

    assert storage.periodic()[0].next_run == before.next_run


def test_its_declaration_is_made_anew(storage):
    worker = version(make_entry())
    storage.wait(HOUR)
    worker.fire(storage)

    storage.wait(-HOUR)
    worker.fire(storage)

    assert [(state.entry.app, state.registered_at) for state in storage.periodic()] == [(APP, storage.moment)]
    assert storage.moment == Stopped.moment
