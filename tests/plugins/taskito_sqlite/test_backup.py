"""A copy made while workers and producers are busy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito_core import JobFilter, JobStatus
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import complete, make_job, make_worker, want
from tests.plugins.taskito_sqlite.conftest import Open, Spawn

LIVE = (JobStatus.PENDING, JobStatus.RUNNING)


@pytest.fixture
def busy(storage: SqliteStorage, spawn: Spawn) -> Iterator[SqliteStorage]:
    """A store that two workers and a producer are busy with; its jobs depend on each other."""
    parents = [make_job(max_retries=50) for _ in range(300)]
    children = [make_job(parents=(parent.id,), tolerant=True) for parent in parents]
    keyed = [make_job(concurrency_key=f"key-{index % 5}", concurrency=2) for index in range(300)]
    unique = [make_job(unique_key=f"unique-{index}", expires=3600.0) for index in range(100)]
    together = make_job(parents=tuple(parent.id for parent in parents), tolerant=True)
    storage.enqueue([*parents, *children, *keyed, *unique, together])
    workers = [spawn("work", storage.path, 60) for _ in range(2)]
    spawn("produce", storage.path, "more", 100_000)
    yield storage
    assert [worker.poll() for worker in workers] == [None, None]


def _finished(storage: SqliteStorage) -> int:
    counts = storage.counts().by_queue["default"]
    return counts.complete + counts.dead + counts.cancelled


def test_s91_every_job_of_a_copy_made_under_load_can_be_finished(
    busy: SqliteStorage, open_storage: Open, tmp_path: Path, wait_until: WaitUntil
) -> None:
    wait_until(lambda: _finished(busy) > 100)
    busy.backup(str(tmp_path / "copy.db"))
    copy = open_storage(db_path=str(tmp_path / "copy.db"))
    with closing(sqlite3.connect(copy.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert copy.list_jobs(JobFilter(statuses=LIVE), 1, None).jobs != []

    copy.rescue({worker.id: worker.beat for worker in copy.workers()})
    worker = make_worker()
    copy.register(worker)
    # Those that were to be tried again later fall due too.
    copy.clock_shift = 1_000_000
    outcomes = [complete(claimed) for claimed in copy.exchange(worker.id, [], want(50)).claims]
    while outcomes:
        answer = copy.exchange(worker.id, outcomes, want(50))
        assert answer.recorded == {outcome.job_id for outcome in outcomes}
        outcomes = [complete(claimed) for claimed in answer.claims]

    assert copy.list_jobs(JobFilter(statuses=LIVE), 10, None).jobs == []


def test_a_copy_is_a_store_of_its_own(
    busy: SqliteStorage, open_storage: Open, tmp_path: Path, wait_until: WaitUntil
) -> None:
    wait_until(lambda: _finished(busy) > 100)
    busy.backup(str(tmp_path / "copy.db"))
    copy = open_storage(db_path=str(tmp_path / "copy.db"))
    job = make_job(queue="only-here")

    copy.enqueue([job])

    assert [found.id for found in copy.get([job.id])] == [job.id]
    assert busy.get([job.id]) == []
