"""The caller's own connection: every kind that is taken, what it is left like, and who waits for whom."""

from __future__ import annotations

import select
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from conftest import WaitUntil
from taskito_core import ConfigError, JobStatus, StorageUnavailable
from taskito_core.testing import claim, complete, enqueue_and_claim, make_job, make_worker, want
from taskito_core.testing.factories import status_of
from taskito_sqlite import doorbell
from taskito_sqlite.storage import SqliteStorage
from tests.sqlite.conftest import Open

#: Gives what is passed as ``connection``, and the functions that commit and roll back.
Opened = tuple[Any, Callable[[], None], Callable[[], None]]

LONG = 30.0


@contextmanager
def _plain(path: Path) -> Iterator[Opened]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def _cursor(path: Path) -> Iterator[Opened]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection.cursor(), connection.commit, connection.rollback


@contextmanager
def _own_rows(path: Path) -> Iterator[Opened]:
    """Everything that changes what is read: rows, texts and the cursor itself."""

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = None) -> Any:
            raise AssertionError("this connection makes cursors in its own way")

    with closing(sqlite3.connect(path, factory=Connection)) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        yield connection, connection.commit, connection.rollback


@contextmanager
def _explicit(path: Path) -> Iterator[Opened]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:

        def end(how: str) -> None:
            connection.execute(how)
            connection.execute("BEGIN")

        connection.execute("BEGIN")
        yield connection, lambda: end("COMMIT"), lambda: end("ROLLBACK")
        connection.execute("ROLLBACK")


@contextmanager
def _pep_249(path: Path) -> Iterator[Opened]:
    with closing(sqlite3.connect(path, autocommit=False)) as connection:  # type: ignore[call-overload]
        yield connection, connection.commit, connection.rollback


def _engine(path: Path) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=NullPool)


def _explicit_engine(path: Path) -> sqlalchemy.Engine:
    """As SQLAlchemy's manual has it, for savepoints that work."""
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}", poolclass=NullPool, connect_args={"isolation_level": None}
    )
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


@contextmanager
def _sqlalchemy(path: Path) -> Iterator[Opened]:
    with _engine(path).connect() as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def _sqlalchemy_that_begins(path: Path) -> Iterator[Opened]:
    with _explicit_engine(path).connect() as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def _sqlalchemy_session(path: Path) -> Iterator[Opened]:
    with Session(_engine(path)) as session:
        yield session, session.commit, session.rollback


@contextmanager
def _sqlalchemy_raw(path: Path) -> Iterator[Opened]:
    with closing(_engine(path).raw_connection()) as connection:
        yield connection, connection.commit, connection.rollback


KINDS = {
    "connection": _plain,
    "cursor": _cursor,
    "own rows, texts and cursors": _own_rows,
    "explicit transactions": _explicit,
    "SQLAlchemy": _sqlalchemy,
    "SQLAlchemy that begins": _sqlalchemy_that_begins,
    "SQLAlchemy session": _sqlalchemy_session,
    "SQLAlchemy raw": _sqlalchemy_raw,
}
if sys.version_info >= (3, 12):
    KINDS["autocommit=False"] = _pep_249
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


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


@pytest.mark.parametrize("engine", [_engine, _explicit_engine])
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
    with Session(_explicit_engine(sqlite_path)) as session:
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


# ---- who hears of the commit ----


def _waits(storage: SqliteStorage, worker: str) -> doorbell.Ear:
    ear = storage.listen(worker, ["default"])
    storage.exchange(worker, [], want(1))
    return ear


def _is_rung(ear: doorbell.Ear) -> bool:
    """By its bell: ``wait`` would find the commit by itself in the end."""
    assert ear._bell is not None
    return bool(select.select([ear._bell], [], [], LONG)[0]) and ear._bell.silence()


@pytest.mark.parametrize("kind", [_plain, _sqlalchemy_session, _explicit])
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
