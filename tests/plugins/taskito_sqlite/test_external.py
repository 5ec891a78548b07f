"""The caller's own connection: every kind that is taken, what it is left like, and who waits for whom."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from taskito_core import ConfigError, JobStatus, StorageUnavailable
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import claim, complete, enqueue_and_claim, make_job, make_worker
from taskito_testing.factories import status_of
from tests.plugins.taskito_sqlite.connections import every_kind, explicit_engine, plain_engine

LONG = 30.0


@pytest.fixture
def worker(storage: SqliteStorage) -> str:
    info = make_worker()
    storage.register(info)
    return info.id


@every_kind
def test_jobs_and_completions_live_and_die_with_the_callers_transaction(
    storage: SqliteStorage, worker: str, sqlite_path: Path, kind: Callable[[Path], Any]
) -> None:
    claimed = enqueue_and_claim(storage, worker)
    undone = make_job(tags=("a",), unique_key="k", concurrency_key="key", concurrency=1)
    done = [make_job(unique_key="k"), make_job(parents=(claimed.id,)), make_job()]
    with kind(sqlite_path) as (connection, commit, rollback):
        storage.enqueue([undone], connection=connection)
        assert storage.complete_in(connection, complete(claimed, b"undone"))
        rollback()
        assert storage.get([undone.id]) == []
        assert status_of(storage, claimed.id) is JobStatus.RUNNING

        assert storage.complete_in(connection, complete(claimed, b"done"))
        storage.enqueue(done, connection=connection)
        assert storage.get([job.id for job in done]) == []
        commit()

    assert storage.get([claimed.id])[0].result == b"done"
    assert sorted(each.id for each in claim(storage, worker, 5)) == sorted(job.id for job in done)


@pytest.mark.parametrize("engine", [plain_engine, explicit_engine])
def test_sqlalchemy_has_its_way_with_a_session_that_wrote_before(
    storage: SqliteStorage, sqlite_path: Path, engine: Callable[[Path], sqlalchemy.Engine]
) -> None:
    storage.migrate()
    kept, undone = make_job(), make_job()
    with Session(engine(sqlite_path)) as session:
        session.execute(sqlalchemy.text("CREATE TABLE orders (id INTEGER)"))
        session.commit()
        session.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
        storage.enqueue([kept], connection=session)
        session.commit()
        session.execute(sqlalchemy.text("INSERT INTO orders VALUES (2)"))
        storage.enqueue([undone], connection=session)
        session.rollback()
        orders = session.execute(sqlalchemy.text("SELECT id FROM orders")).scalars().all()

    assert orders == [1]
    assert [job.id for job in storage.get([kept.id, undone.id])] == [kept.id]


def test_a_savepoint_of_sqlalchemy_takes_back_only_what_followed_it(
    storage: SqliteStorage, sqlite_path: Path
) -> None:
    storage.migrate()
    kept, undone = make_job(), make_job()
    with Session(explicit_engine(sqlite_path)) as session:
        storage.enqueue([kept], connection=session)
        nested = session.begin_nested()
        storage.enqueue([undone], connection=session)
        nested.rollback()
        session.commit()

    assert [job.id for job in storage.get([kept.id, undone.id])] == [kept.id]


_AUTOCOMMIT: list[dict[str, Any]] = [{"isolation_level": None}]
if sys.version_info >= (3, 12):
    _AUTOCOMMIT.append({"autocommit": True})


@pytest.mark.parametrize("mode", _AUTOCOMMIT, ids=str)
def test_a_connection_in_autocommit_stores_all_or_none_at_once(
    storage: SqliteStorage, sqlite_path: Path, mode: dict[str, Any]
) -> None:
    storage.migrate()
    stored, half = make_job(), make_job()
    with closing(sqlite3.connect(sqlite_path, **mode)) as connection:
        storage.enqueue([stored], connection=connection)
        with pytest.raises(KeyError):
            storage.enqueue([half, make_job(parents=("unknown",))], connection=connection)

        assert not connection.in_transaction
        assert [job.id for job in storage.get([stored.id, half.id])] == [stored.id]


def test_a_failed_enqueue_leaves_no_transaction_open_that_was_not(
    storage: SqliteStorage, sqlite_path: Path
) -> None:
    storage.migrate()
    with closing(sqlite3.connect(sqlite_path)) as connection:
        with pytest.raises(KeyError):
            storage.enqueue([make_job(parents=("unknown",))], connection=connection)

        assert not connection.in_transaction


def test_the_callers_connection_is_left_as_it_was(
    storage: SqliteStorage, worker: str, sqlite_path: Path
) -> None:
    claimed = enqueue_and_claim(storage, worker)
    with closing(sqlite3.connect(sqlite_path)) as connection:
        connection.text_factory = bytes
        connection.row_factory = sqlite3.Row
        pragmas = ("synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint", "temp_store")

        def settings() -> list[object]:
            read = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
            attributes = (connection.isolation_level, connection.text_factory, connection.row_factory)
            return [*read, *attributes]

        before = settings()
        storage.enqueue([make_job(unique_key="k", expires=60.0)], connection=connection)
        assert storage.complete_in(connection, complete(claimed))

        assert connection.in_transaction
        assert settings() == before


class _Async:
    sync_session = None


@pytest.mark.parametrize("wrong", [object(), "sqlite:///jobs.db", _Async()], ids=["object", "text", "async"])
def test_anything_else_is_refused_with_what_would_be_right(storage: SqliteStorage, wrong: object) -> None:
    storage.migrate()

    with pytest.raises(ConfigError, match=r"connection must be .*got (builtins|tests|.*test_external)"):
        storage.enqueue([make_job()], connection=wrong)

    assert storage.counts().by_queue == {}


@pytest.mark.parametrize("other", ["other.db", ":memory:"])
def test_a_connection_to_another_file_is_refused_and_both_are_named(
    storage: SqliteStorage, sqlite_path: Path, tmp_path: Path, other: str
) -> None:
    elsewhere = other if other == ":memory:" else str(tmp_path / other)
    with closing(sqlite3.connect(elsewhere)) as connection:
        with pytest.raises(ConfigError) as refused:
            storage.enqueue([make_job()], connection=connection)

        assert str(sqlite_path) in str(refused.value)
        assert elsewhere in str(refused.value)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_another_name_of_the_same_file_is_the_same_file(
    storage: SqliteStorage, sqlite_path: Path, tmp_path: Path
) -> None:
    storage.migrate()
    (tmp_path / "link.db").symlink_to(sqlite_path)
    job = make_job()

    with closing(sqlite3.connect(tmp_path / "link.db")) as connection:
        storage.enqueue([job], connection=connection)
        connection.commit()

    assert [found.id for found in storage.get([job.id])] == [job.id]


# ---- with other writers ----


def test_a_transaction_that_has_not_read_waits_for_other_writers(
    storage: SqliteStorage, sqlite_path: Path
) -> None:
    storage.migrate()
    job = make_job()
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        blocked = threading.Event()

        def enqueue() -> None:
            with closing(sqlite3.connect(sqlite_path, isolation_level=None, timeout=0)) as connection:
                connection.set_trace_callback(lambda statement: "UPDATE" in statement and blocked.set())
                connection.execute("BEGIN")
                storage.enqueue([job], connection=connection)
                connection.execute("COMMIT")

        thread = threading.Thread(target=enqueue)
        thread.start()
        assert blocked.wait(LONG)
        other.execute("INSERT INTO paused_queues VALUES ('other', 0)")
        other.execute("COMMIT")
        thread.join(LONG)

    assert [found.id for found in storage.get([job.id])] == [job.id]


def test_a_transaction_that_read_too_early_is_told_what_to_do(
    storage: SqliteStorage, sqlite_path: Path
) -> None:
    storage.migrate()
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM jobs").fetchone()
        storage.enqueue([make_job()])

        with pytest.raises(StorageUnavailable, match=r"read before somebody else wrote.*BEGIN IMMEDIATE"):
            storage.enqueue([make_job()], connection=connection)

        assert connection.in_transaction
    assert storage.counts().by_queue["default"].pending == 1
