"""Commits of the caller's own transaction: waiting workers are notified, and those who wait for a job."""

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
from taskito_sqlite import commit_watch, wakeups
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import claim, complete, enqueue_and_claim, make_job, make_worker, want
from tests.plugins.taskito_sqlite.conftest import Open
from tests.plugins.taskito_sqlite.connections import explicit, plain, sqlalchemy_session

LONG = 30.0


@pytest.fixture
def worker(storage: SqliteStorage) -> str:
    info = make_worker()
    storage.register(info)
    return info.id


def _waits(storage: SqliteStorage, worker: str) -> wakeups.WorkerWakeups:
    waiting = storage.listen(worker, ["default"])
    storage.exchange(worker, [], want(1))
    return waiting


def _is_notified(waiting: wakeups.WorkerWakeups) -> bool:
    """By its socket: ``wait`` would find the commit by itself in the end."""
    notified = waiting._notified
    assert notified is not None
    return bool(select.select([notified], [], [], LONG)[0]) and notified.drain()


@pytest.mark.parametrize("kind", [plain, sqlalchemy_session, explicit])
def test_a_waiting_worker_is_notified_after_the_callers_commit(
    open_storage: Open, storage: SqliteStorage, worker: str, sqlite_path: Path, kind: Callable[[Path], Any]
) -> None:
    with closing(_waits(storage, worker)) as waiting, kind(sqlite_path) as (connection, commit, _):
        open_storage().enqueue([make_job()], connection=connection)
        commit()

        assert _is_notified(waiting)
        assert len(claim(storage, worker)) == 1


def test_a_waiting_worker_is_notified_after_a_statement_of_a_connection_in_autocommit(
    open_storage: Open, storage: SqliteStorage, worker: str, sqlite_path: Path
) -> None:
    with (
        closing(_waits(storage, worker)) as waiting,
        closing(sqlite3.connect(sqlite_path, isolation_level=None)) as connection,
    ):
        open_storage().enqueue([make_job()], connection=connection)

        assert _is_notified(waiting)


def test_a_caller_that_commits_and_closes_at_once_has_notified(
    open_storage: Open,
    storage: SqliteStorage,
    worker: str,
    sqlite_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit_watch, "POLL_INTERVALS", ((float("inf"), 10 * LONG),))
    producer = open_storage()
    with (
        closing(_waits(storage, worker)) as waiting,
        closing(sqlite3.connect(sqlite_path)) as connection,
    ):
        producer.enqueue([make_job()], connection=connection)
        connection.commit()
        producer.close()

        assert _is_notified(waiting)


def test_jobs_of_later_transactions_are_announced_like_those_of_the_first(
    open_storage: Open, storage: SqliteStorage, worker: str, sqlite_path: Path
) -> None:
    producer = open_storage()
    with (
        closing(_waits(storage, worker)) as waiting,
        closing(sqlite3.connect(sqlite_path)) as connection,
    ):
        for ending in (connection.rollback, connection.commit, connection.commit):
            producer.enqueue([make_job()], connection=connection)
            ending()
            if ending == connection.commit:
                assert _is_notified(waiting)
                assert len(claim(storage, worker)) == 1
                storage.exchange(worker, [], want(1))


def test_a_waiter_is_notified_after_the_job_completed_in_the_callers_transaction(
    open_storage: Open,
    storage: SqliteStorage,
    worker: str,
    sqlite_path: Path,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wakeups, "CHECK_INTERVAL", 10 * LONG)
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


def test_the_watching_thread_ends_once_every_commit_was_seen(
    open_storage: Open, sqlite_path: Path, wait_until: WaitUntil
) -> None:
    producer = open_storage()
    with closing(sqlite3.connect(sqlite_path)) as connection:
        producer.enqueue([make_job()], connection=connection)
        assert "taskito-commit-watch" in [thread.name for thread in threading.enumerate()]
        connection.commit()

        wait_until(lambda: "taskito-commit-watch" not in [thread.name for thread in threading.enumerate()])
