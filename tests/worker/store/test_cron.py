"""What a worker does about the periodic tasks in a store, on a clock that only the test moves."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from taskito.worker.store.cron import DECLARE_INTERVAL, Schedules
from taskito_core.storage import StorageConfig
from taskito_core.storage_client import JobFilter
from taskito_core.storage_worker import PeriodicEntry
from taskito_kv.storage import MemoryStorage
from taskito_testing.factories import make_entry

APP = "app:queue"
SECONDLY, HALF_MINUTELY, HOURLY = "* * * * * *", "*/30 * * * * *", "0 * * * *"
TEN_MINUTES = 600


class Stopped(MemoryStorage):
    """A store whose clock stands at noon, and is moved by ``wait``."""

    moment = 1_777_636_800_000

    def now(self) -> int:
        return self.moment

    def wait(self, seconds: float) -> None:
        self.moment += round(seconds * 1000)

    def slots(self) -> list[int]:
        """Seconds after noon for which there are jobs."""
        jobs = self.list_jobs(JobFilter(), 5_000, None).jobs
        return sorted((job.scheduled_at - Stopped.moment) // 1000 for job in jobs)


@pytest.fixture
def storage() -> Iterator[Stopped]:
    storage = Stopped(StorageConfig(backend="memory", db_url=f"memory://schedules-{random.random()}"))
    storage.migrate()
    yield storage
    storage.close()


def version(*entries: PeriodicEntry) -> Schedules:
    """A worker of one version of the app."""
    return Schedules(APP, entries, frozenset())


def test_the_next_look_is_when_the_next_slot_comes(storage):
    worker = version(make_entry(cron=SECONDLY))
    storage.wait(0.25)

    assert worker.fire(storage) == 0.75


def test_of_a_schedule_of_seconds_one_job_is_enqueued_after_a_long_stop(storage):
    worker = version(make_entry(cron=SECONDLY))
    worker.fire(storage)

    storage.wait(1_000.5)
    worker.fire(storage)

    assert storage.slots() == [1_000]


def test_every_missed_slot_is_enqueued_without_a_pause_if_the_task_says_all(storage):
    worker = version(make_entry(cron=SECONDLY, catch_up="all"))
    worker.fire(storage)

    storage.wait(2_500)
    pauses = [worker.fire(storage) for _ in range(3)]

    assert storage.slots() == list(range(1, 2_501))
    assert pauses == [0, 0, 1]


def test_a_task_that_was_resumed_while_nobody_told_the_worker_fires_its_very_next_slot(storage):
    worker = version(make_entry(cron=SECONDLY))
    worker.fire(storage)
    storage.enable_periodic("every minute", False, None)
    storage.wait(60.5)

    pause = worker.fire(storage)
    storage.enable_periodic("every minute", True, Stopped.moment + 61_000)
    storage.wait(pause)
    worker.fire(storage)

    assert pause == 0.5
    assert storage.slots() == [61]


def test_a_paused_task_is_looked_after_no_more_often_than_it_would_fire(storage):
    worker = version(make_entry(cron=HALF_MINUTELY))
    worker.fire(storage)
    storage.enable_periodic("every minute", False, None)
    storage.wait(65)

    assert worker.fire(storage) == 25


def test_a_task_of_which_another_version_changed_the_times_is_left_to_that_version(storage):
    old, new = version(make_entry(cron=HOURLY)), version(make_entry(cron=HALF_MINUTELY))
    old.fire(storage)
    new.fire(storage)
    storage.wait(30)

    pause = old.fire(storage)
    before = storage.slots()
    new.fire(storage)

    assert (pause, before) == (DECLARE_INTERVAL, [])
    assert storage.slots() == [30]


def test_a_version_without_the_task_leaves_it_to_the_one_that_has_it(storage):
    old, new = version(make_entry(name="old")), version(make_entry(name="new"))
    for worker in (old, new):
        worker.fire(storage)
    storage.wait(60)

    for worker in (new, new, old):
        worker.fire(storage)

    assert sorted((state.entry.name, state.last_run) for state in storage.periodic()) == [
        ("new", storage.moment),
        ("old", storage.moment),
    ]
    assert storage.slots() == [60, 60]


def test_a_version_without_any_periodic_task_forgets_those_of_the_one_before(storage):
    before, after = version(make_entry()), version()
    before.fire(storage)
    after.fire(storage)

    storage.wait(TEN_MINUTES)
    assert after.fire(storage) == DECLARE_INTERVAL

    assert storage.periodic() == []
