"""The caller's own connection: every kind that is taken, the end of its transaction, and waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from conftest import WaitUntil
from taskito_core import ConfigError, JobStatus
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, status_of, want

from .conftest import OpenStorage

#: Gives what is passed as ``connection``, and the functions that commit and roll back.
Opened = tuple[Any, Callable[[], None], Callable[[], None]]


@contextmanager
def _psycopg(url: str) -> Iterator[Opened]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def _psycopg_cursor(url: str) -> Iterator[Opened]:
    with psycopg.connect(url) as connection:
        yield connection.cursor(), connection.commit, connection.rollback


@contextmanager
def _client_cursor(url: str) -> Iterator[Opened]:
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def _sqlalchemy(url: str) -> Iterator[Opened]:
    with _engine(url).connect() as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def _sqlalchemy_session(url: str) -> Iterator[Opened]:
    with Session(_engine(url)) as session:
        yield session, session.commit, session.rollback


def _engine(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool
    )


KINDS = {
    "psycopg": _psycopg,
    "cursor": _psycopg_cursor,
    "client cursor": _client_cursor,
    "SQLAlchemy": _sqlalchemy,
    "SQLAlchemy session": _sqlalchemy_session,
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@every_kind
def test_jobs_and_completions_live_and_die_with_the_callers_transaction(
    storage: PostgresStorage, worker_id: str, postgres_url: str, kind: Callable[[str], Any]
) -> None:
    claimed = enqueue_and_claim(storage, worker_id)
    undone, done = make_job(tags=("a", "b"), unique_key="k"), make_job(unique_key="k")
    with kind(postgres_url) as (connection, commit, rollback):
        storage.enqueue([undone], connection=connection)
        assert storage.complete_in(connection, complete(claimed, b"undone"))
        rollback()
        assert storage.get([undone.id]) == []
        assert status_of(storage, claimed.id) is JobStatus.RUNNING

        storage.enqueue([done], connection=connection)
        assert storage.complete_in(connection, complete(claimed, b"done"))
        commit()

    assert storage.get([claimed.id])[0].result == b"done"
    assert [each.id for each in claim(storage, worker_id, 5)] == [done.id]


def test_a_savepoint_of_sqlalchemy_takes_back_only_what_followed_it(
    storage: PostgresStorage, postgres_url: str
) -> None:
    storage.migrate()
    kept, undone = make_job(), make_job()
    with Session(_engine(postgres_url)) as session:
        storage.enqueue([kept], connection=session)
        nested = session.begin_nested()
        storage.enqueue([undone], connection=session)
        nested.rollback()
        session.commit()

    assert [job.id for job in storage.get([kept.id, undone.id])] == [kept.id]


def test_a_connection_in_autocommit_stores_all_or_none(storage: PostgresStorage, postgres_url: str) -> None:
    storage.migrate()
    parent = make_job()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        storage.enqueue([parent, make_job(parents=(parent.id,))], connection=connection)
        with connection.transaction(force_rollback=True):
            storage.enqueue([make_job()], connection=connection)

    assert storage.counts().by_queue["default"].pending == 2


def test_the_callers_session_is_left_as_it_was(
    storage: PostgresStorage, worker_id: str, postgres_url: str
) -> None:
    claimed = enqueue_and_claim(storage, worker_id, concurrency_key="key", concurrency=1)
    with psycopg.connect(postgres_url, row_factory=dict_row) as connection:
        shown = "SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'transaction%' ORDER BY name"
        before = connection.execute(shown).fetchall()
        storage.enqueue([make_job(), make_job()], connection=connection)
        assert storage.complete_in(connection, complete(claimed))

        assert connection.execute(shown).fetchall() == before
        assert connection.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
        assert connection.execute("SELECT 1 AS one, ARRAY[1] AS more").fetchone() == {"one": 1, "more": [1]}
        assert connection.execute("SELECT pg_typeof(%s) AS kind", (1,)).fetchone() == {"kind": "smallint"}


class _Async:
    sync_session = None


@pytest.mark.parametrize("wrong", [object(), "postgresql://", _Async()], ids=["object", "text", "async"])
def test_anything_else_is_refused_with_what_would_be_right(storage: PostgresStorage, wrong: object) -> None:
    storage.migrate()

    with pytest.raises(ConfigError, match=r"connection must be .*got (builtins|tests|.*test_external)"):
        storage.enqueue([make_job()], connection=wrong)

    assert storage.counts().by_queue == {}


def test_a_worker_that_waits_is_notified_by_the_callers_commit(
    storage: PostgresStorage, worker_id: str, postgres_url: str
) -> None:
    waking = storage.listen(worker_id, ["default"])
    try:
        assert claim(storage, worker_id) == []
        with psycopg.connect(postgres_url) as connection:
            storage.enqueue([make_job()], connection=connection)
            assert waking.wait(0.2) is False
            connection.commit()
            assert waking.wait(30.0) is True
    finally:
        waking.close()
    assert len(claim(storage, worker_id)) == 1


def test_no_settle_waits_for_a_transaction_that_enqueued_dependants(
    storage: PostgresStorage, worker_id: str, postgres_url: str, database: psycopg.Connection[Any]
) -> None:
    parent = enqueue_and_claim(storage, worker_id, concurrency_key="key", concurrency=1)
    waiting = make_job(concurrency_key="key", concurrency=1)
    storage.enqueue([waiting])
    with psycopg.connect(postgres_url) as connection:
        child = make_job(parents=(parent.id,))
        storage.enqueue([child, make_job(concurrency_key="key", concurrency=1)], connection=connection)

        # Under the worker's lock_timeout this would raise if anything were locked.
        answer = storage.exchange(worker_id, [complete(parent)], want(5))
        assert [each.id for each in answer.claims] == [waiting.id]
        connection.commit()

    assert child.id in storage.sweep(100).opened
    assert [each.id for each in claim(storage, worker_id, 5)] == [child.id]


def test_an_open_completion_does_not_hold_up_the_outcomes_of_others(
    storage: PostgresStorage, worker_id: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage.enqueue([make_job() for _ in range(3)])
    held, *others = claim(storage, worker_id, 3)
    with psycopg.connect(postgres_url) as connection:
        assert storage.complete_in(connection, complete(held, b"inside"))

        answer = storage.exchange(worker_id, [complete(each) for each in (held, *others)], None)

        assert answer.recorded == {each.id for each in others}
        assert held.id in caplog.text
        connection.commit()

    assert storage.exchange(worker_id, [complete(held)], None).recorded == {held.id}


def test_an_open_completion_holds_up_neither_producers_of_dependants_nor_a_worker_that_leaves(
    storage: PostgresStorage, worker_id: str, postgres_url: str
) -> None:
    held = enqueue_and_claim(storage, worker_id)
    child = make_job(parents=(held.id,))
    with psycopg.connect(postgres_url) as connection:
        assert storage.complete_in(connection, complete(held))
        assert [receipt.inserted for receipt in storage.enqueue([child])] == [True]
        storage.unregister(worker_id)
        connection.commit()

    assert status_of(storage, held.id) is JobStatus.COMPLETE
    assert storage.sweep(100).opened == [child.id]


def test_the_end_of_an_awaited_job_is_notified_by_the_callers_commit(
    storage: PostgresStorage, worker_id: str, postgres_url: str, wait_until: WaitUntil, database: Any
) -> None:
    claimed = enqueue_and_claim(storage, worker_id)
    ends: list[bool] = []
    with psycopg.connect(postgres_url) as connection:
        storage.complete_in(connection, complete(claimed))
        thread = threading.Thread(target=lambda: ends.append(storage.await_finished(claimed.id, 60.0)))
        thread.start()
        wait_until(lambda: storage._finished.is_listening)
        assert ends == []
        connection.commit()
    thread.join(timeout=30)

    assert ends == [True]


def test_a_completion_is_not_taken_for_lost_because_its_row_changed(
    storage: PostgresStorage,
    worker_id: str,
    postgres_url: str,
    database: psycopg.Connection[Any],
    wait_until: WaitUntil,
) -> None:
    claimed = enqueue_and_claim(storage, worker_id)
    answers: list[bool] = []
    with psycopg.connect(postgres_url) as connection:
        with database.transaction():
            database.execute("UPDATE taskito.jobs_live SET awaited = true WHERE id = %s", (claimed.id,))
            thread = threading.Thread(
                target=lambda: answers.append(storage.complete_in(connection, complete(claimed)))
            )
            thread.start()
            blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            wait_until(lambda: database.execute(blocked).fetchone() == (1,))
        thread.join(timeout=30)
        connection.commit()

    assert answers == [True]


def test_the_first_use_of_a_store_may_be_inside_of_a_transaction(
    open_storage: OpenStorage, postgres_url: str
) -> None:
    storage = open_storage()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE public.orders (id int)")
        storage.enqueue([make_job()], connection=connection)
        connection.commit()

    assert storage.counts().by_queue["default"].pending == 1
