"""What follows from the end of a job: which call goes on from it when none has, and what it may cost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from taskito_core import Claim, JobFilter, JobStatus, NewJob
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import claim, complete, enqueue_and_claim, make_job, make_worker
from taskito_testing.factories import status_of
from tests.plugins.taskito_sqlite.conftest import Open

#: A result recorded by a statement that knows nothing of slots and parents, as complete_in's.
BARE_COMPLETE = """
UPDATE jobs SET status = 'complete', result = ?3, started_at = ?4, completed_at = ?5,
                prune_at = ?5 + CAST(result_ttl * 1000 AS INTEGER)
 WHERE id = ?1 AND token = ?2 AND status = 'running'
"""


@pytest.fixture
def worker(storage: SqliteStorage) -> str:
    info = make_worker()
    storage.register(info)
    return info.id


def _bare_statement(storage: SqliteStorage, claimed: Claim) -> None:
    now = storage.now()
    with closing(sqlite3.connect(storage.path, isolation_level=None)) as connection:
        values = (claimed.id, claimed.token, b"", now, now)
        assert connection.execute(BARE_COMPLETE, values).rowcount == 1


def _own_transaction(storage: SqliteStorage, claimed: Claim) -> None:
    with closing(sqlite3.connect(storage.path)) as connection:
        assert storage.complete_in(connection, complete(claimed))
        connection.commit()


#: Ends of a job after which no cascade is run.
unheard = pytest.mark.parametrize("end", [_bare_statement, _own_transaction])


@unheard
def test_children_and_the_next_of_a_key_are_opened_by_the_sweep_if_nobody_else_did(
    storage: SqliteStorage, worker: str, end: Callable[[SqliteStorage, Claim], None]
) -> None:
    claimed = enqueue_and_claim(storage, worker, concurrency_key="key", concurrency=1)
    child, following = make_job(parents=(claimed.id,)), make_job(concurrency_key="key", concurrency=1)
    storage.enqueue([child, following])
    end(storage, claimed)

    swept = storage.sweep(100)

    assert sorted(swept.opened) == sorted([child.id, following.id])
    assert sorted(each.id for each in claim(storage, worker, 5)) == sorted([child.id, following.id])
    assert storage.sweep(100).opened == []


@unheard
def test_any_workers_next_settle_goes_on_from_an_end_that_nobody_heard_of(
    storage: SqliteStorage, worker: str, end: Callable[[SqliteStorage, Claim], None]
) -> None:
    other = enqueue_and_claim(storage, worker)
    claimed = enqueue_and_claim(storage, worker)
    child = make_job(parents=(claimed.id,))
    storage.enqueue([child])
    end(storage, claimed)

    storage.exchange(worker, [complete(other)], None)

    assert [each.id for each in claim(storage, worker, 5)] == [child.id]


def test_a_child_whose_parent_somebody_deleted_by_hand_is_cancelled(
    storage: SqliteStorage, worker: str
) -> None:
    claimed = enqueue_and_claim(storage, worker)
    lost = make_job(delay=3600.0)
    child = make_job(parents=(claimed.id, lost.id))
    storage.enqueue([lost, child])
    with closing(sqlite3.connect(storage.path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM jobs WHERE id = ?", (lost.id,))

    storage.exchange(worker, [complete(claimed)], None)

    [job] = storage.get([child.id])
    assert (job.status, job.error) == (JobStatus.CANCELLED, f"parent {lost.id} was deleted")


def test_a_dropped_job_takes_its_children_of_the_same_batch_along(
    storage: SqliteStorage, worker: str
) -> None:
    key = {"concurrency_key": "key", "concurrency": 1}
    storage.enqueue([make_job(**key)])
    dropped = make_job(**key, drop_excess=True)
    child = make_job(parents=(dropped.id,))

    storage.enqueue([dropped, child])

    assert status_of(storage, dropped.id) is JobStatus.CANCELLED
    assert status_of(storage, child.id) is JobStatus.CANCELLED


# ---- what it may cost, counted in SQLite's own steps ----

Work = Callable[[SqliteStorage], object]


def _steps(storage: SqliteStorage, work: Work) -> int:
    """How many thousand steps SQLite took for it, on the one connection of this storage."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    storage._database.read(lambda connection: connection.set_progress_handler(count, 1000))
    work(storage)
    storage._database.read(lambda connection: connection.set_progress_handler(None, 0))
    return steps


def _of_as_many_keys(number: int) -> list[NewJob]:
    return [make_job(concurrency_key=f"key-{index}", concurrency=1) for index in range(number)]


def test_jobs_of_many_keys_cost_as_much_each_as_jobs_of_few(open_storage: Open) -> None:
    storage = open_storage(pool_size=1)
    storage.migrate()
    few, many = _of_as_many_keys(100), _of_as_many_keys(2000)

    of_few = _steps(storage, lambda opened: opened.enqueue(few))
    of_many = _steps(storage, lambda opened: opened.enqueue(many))

    assert of_many < 20 * of_few * 3


def test_many_keys_that_fall_due_at_once_cost_as_much_each_as_few(open_storage: Open) -> None:
    storage = open_storage(pool_size=1)
    storage.migrate()
    costs = []
    for number, hours in ((100, 1), (2000, 2)):
        storage.enqueue([replace(job, delay=hours * 3600.0) for job in _of_as_many_keys(number)])
        storage.clock_shift = hours * 3_600_000 + 1000

        costs.append(_steps(storage, lambda opened: opened.sweep(10_000)))

        storage.clock_shift = 0
        storage.cancel([job.id for job in storage.list_jobs(JobFilter(), 10_000, None).jobs], "done")

    assert costs[1] < 20 * costs[0] * 3


def test_the_end_of_one_of_many_parents_costs_as_much_as_that_of_one_of_few(open_storage: Open) -> None:
    storage = open_storage(pool_size=1)
    worker = make_worker()
    storage.register(worker)
    costs = []
    for number in (100, 2000):
        parents = [make_job() for _ in range(number)]
        storage.enqueue([*parents, make_job(parents=tuple(parent.id for parent in parents), delay=3600.0)])
        claims = claim(storage, worker.id, number)

        def settle_one_by_one(opened: SqliteStorage, claims: list[Claim] = claims) -> None:
            for claimed in claims:
                opened.exchange(worker.id, [complete(claimed)], None)

        costs.append(_steps(storage, settle_one_by_one))

    assert costs[1] < 20 * costs[0] * 3
