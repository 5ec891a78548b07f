"""Two-phase transactions of the caller's: the server refuses to prepare one that has notified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from taskito import JobStatus, Queue
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, status_of
from tools.private_postgres import Server, private_postgres

#: Gives what is passed as ``connection``, and the functions that prepare and end its transaction.
Opened = tuple[Any, Callable[[], None], Callable[[bool], None]]

# Made before any test looks for what it leaves behind.
pytestmark = pytest.mark.usefixtures("preparing_server")


@pytest.fixture(scope="module")
def preparing_server() -> Iterator[Server]:
    with private_postgres(external=False, settings=["max_prepared_transactions=5"]) as server:
        yield server


@pytest.fixture
def postgres_url(preparing_server: Server) -> Iterator[str]:
    url = preparing_server.new_database("taskito_test")
    yield url
    preparing_server.drop_database(url)


@contextmanager
def _psycopg(url: str) -> Iterator[Opened]:
    with psycopg.connect(url) as connection:
        connection.tpc_begin("one")
        yield (
            connection.cursor(),
            connection.tpc_prepare,
            lambda commits: connection.tpc_commit() if commits else connection.tpc_rollback(),
        )


@contextmanager
def _sqlalchemy(url: str) -> Iterator[Opened]:
    with _engine(url).connect() as connection:
        transaction = connection.begin_twophase()
        yield (
            connection,
            transaction.prepare,
            lambda commits: transaction.commit() if commits else transaction.rollback(),
        )


@contextmanager
def _sqlalchemy_session(url: str) -> Iterator[Opened]:
    with Session(_engine(url), twophase=True) as session:
        yield session, session.prepare, lambda commits: session.commit() if commits else session.rollback()


def _engine(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool
    )


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
@pytest.mark.parametrize("kind", [_psycopg, _sqlalchemy, _sqlalchemy_session])
def test_jobs_and_completions_are_part_of_a_two_phase_transaction(
    storage: PostgresStorage, worker_id: str, postgres_url: str, kind: Callable[[str], Any], commits: bool
) -> None:
    claimed, added = enqueue_and_claim(storage, worker_id), make_job(unique_key="k")
    with kind(postgres_url) as (connection, prepare, end):
        storage.enqueue([added], connection=connection)
        assert storage.complete_in(connection, complete(claimed, b"inside"))
        prepare()
        assert storage.get([added.id]) == []

        end(commits)

    assert status_of(storage, claimed.id) is (JobStatus.COMPLETE if commits else JobStatus.RUNNING)
    assert [each.id for each in claim(storage, worker_id, 5)] == ([added.id] if commits else [])


def test_after_a_two_phase_transaction_the_same_connection_notifies_again(
    storage: PostgresStorage, worker_id: str, postgres_url: str
) -> None:
    waking = storage.listen(worker_id, ["default"])
    try:
        assert claim(storage, worker_id) == []
        with psycopg.connect(postgres_url) as connection:
            connection.tpc_begin("one")
            storage.enqueue([make_job()], connection=connection)
            connection.tpc_commit()
            storage.enqueue([make_job()], connection=connection)
            connection.commit()
        assert waking.wait(30.0) is True
    finally:
        waking.close()
    assert len(claim(storage, worker_id, 5)) == 2


def test_a_worker_finds_what_a_two_phase_transaction_stored(postgres_url: str) -> None:
    with Queue(db_url=postgres_url) as queue:

        @queue.task
        def double(n: int) -> int:
            return 2 * n

        with queue.embedded_worker(threads=1), psycopg.connect(postgres_url) as connection:
            assert double.delay(1).result(60) == 2
            connection.tpc_begin("one")
            job = double.using(connection=connection).delay(21)
            connection.tpc_prepare()
            connection.tpc_commit()
            assert job.result(60) == 42
