"""Who hears of a commit in a transaction of the caller's own: waiting workers, and who waits for a job."""

from __future__ import annotations

import select
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import WaitUntil
from taskito_sqlite import doorbell
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import claim, complete, enqueue_and_claim, make_job, make_worker, want
from tests.sqlite.conftest import Open
from tests.sqlite.connections import explicit, plain, sqlalchemy_session

LONG = 30.0


@pytest.fixture
def worker(storage: SqliteStorage) -> str:
    info = make_worker()
    storage.register(info)
    return info.id


def _waits(storage: SqliteStorage, worker: str) -> doorbell.Ear:
    ear = storage.listen(worker, ["default"])
    storage.exchange(worker, [], want(1))
    return ear


def _is_rung(ear: doorbell.Ear) -> bool:
    """By its bell: ``wait`` would find the commit by itself in the end."""
    assert ear._bell is not None
    return bool(select.select([ear._bell], [], [], LONG)[0]) and ear._bell.silence()


@pytest.mark.parametrize("kind", [plain, sqlalchemy_session, explicit])
def test_a_waiting_worker_is_rung_after_the_callers_commit(
    open_storage: Open, storage: SqliteStorage, worker: str, sqlite_path: Path, kind: Callable[[Path], Any]
) -> None:
    with closing(_waits(storage, worker)) as ear, kind(sqlite_path) as (connection, commit, _):
        open_storage().enqueue([make_job()], connection=connection)
        commit()

        assert _is_rung(ear)
        assert len(claim(storage, worker)) == 1


def test_a_waiting_worker_is_rung_after_a_statement_of_a_connection_in_autocommit(
    open_storage: Open, storage: SqliteStorage, worker: str, sqlite_path: Path
) -> None:
    with (
        closing(_waits(storage, worker)) as ear,
        closing(sqlite3.connect(sqlite_path, isolation_level=None)) as connection,
    ):
        open_storage().enqueue([make_job()], connection=connection)

        assert _is_rung(ear)


def test_who_commits_and_closes_at_once_has_rung(
    open_storage: Open,
    storage: SqliteStorage,
    worker: str,
    sqlite_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorbell, "POLLING", ((float("inf"), 10 * LONG),))
    producer = open_storage()
    with (
        closing(_waits(storage, worker)) as ear,
        closing(sqlite3.connect(sqlite_path)) as connection,
    ):
        producer.enqueue([make_job()], connection=connection)
        connection.commit()
        producer.close()

        assert _is_rung(ear)


def test_jobs_of_later_transactions_are_rung_for_like_those_of_the_first(
    open_storage: Open, storage: SqliteStorage, worker: str, sqlite_path: Path
) -> None:
    producer = open_storage()
    with (
        closing(_waits(storage, worker)) as ear,
        closing(sqlite3.connect(sqlite_path)) as connection,
    ):
        for ending in (connection.rollback, connection.commit, connection.commit):
            producer.enqueue([make_job()], connection=connection)
            ending()
            if ending == connection.commit:
                assert _is_rung(ear)
                assert len(claim(storage, worker)) == 1
                storage.exchange(worker, [], want(1))


def test_who_waits_for_a_job_is_rung_after_it_completed_in_the_callers_transaction(
    open_storage: Open,
    storage: SqliteStorage,
    worker: str,
    sqlite_path: Path,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorbell, "RECHECK", 10 * LONG)
    claimed = enqueue_and_claim(storage, worker)
    waiter = open_storage()
    with (
        closing(sqlite3.connect(sqlite_path)) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(waiter.await_finished, claimed.id, 2 * LONG)
        asked = "SELECT awaited IS NOT NULL FROM jobs"
        wait_until(lambda: connection.execute(asked).fetchone()[0])
        storage.complete_in(connection, complete(claimed))
        connection.commit()

        assert waiting.result(LONG)


def test_nothing_is_left_of_a_look_out_once_everything_was_seen(
    open_storage: Open, sqlite_path: Path, wait_until: WaitUntil
) -> None:
    producer = open_storage()
    with closing(sqlite3.connect(sqlite_path)) as connection:
        producer.enqueue([make_job()], connection=connection)
        assert "taskito-lookout" in [thread.name for thread in threading.enumerate()]
        connection.commit()

        wait_until(lambda: "taskito-lookout" not in [thread.name for thread in threading.enumerate()])
