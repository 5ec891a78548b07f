"""Servers, databases and roles whose transactions are stricter by default than ours may be."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from taskito import JobStatus, Queue
from taskito_core import Outcome, StorageError
from taskito_postgres.circuit_breaker import PostgresCircuitBreaker
from taskito_postgres.rate_limiter import PostgresRateLimiter
from taskito_postgres.session import Session, Settings, set_up
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import complete, make_job, make_worker, retry, want

from .conftest import OpenKeeper, OpenStorage

LEVELS = ("repeatable read", "serializable")
every_level = pytest.mark.parametrize("level", LEVELS)


def database_default(database: psycopg.Connection[Any], level: str) -> None:
    name = database.info.dbname
    database.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{level}'".encode())


@every_level
@pytest.mark.parametrize("where", ["database", "url"])
def test_own_transactions_see_what_others_commit_whatever_the_default_is(
    open_storage: OpenStorage,
    open_keeper: OpenKeeper,
    database: psycopg.Connection[Any],
    postgres_url: str,
    level: str,
    where: str,
) -> None:
    if where == "database":
        database_default(database, level)
        url = postgres_url
    else:
        url = f"{postgres_url}?options=-c%20default_transaction_isolation%3D{level.replace(' ', '%5C%20')}"
    storage = open_storage(url)
    others = [open_keeper(kind, url) for kind in (PostgresRateLimiter, PostgresCircuitBreaker)]
    with psycopg.connect(url) as plain:
        assert plain.execute("SHOW transaction_isolation").fetchone() == (level,)

    shown = [
        use("look", lambda session: session.rows(b"SHOW transaction_isolation", {}))
        for connections in [each._connections for each in (storage, *others)]
        for use in (connections.on_pool, connections.on_worker, connections.apart)
    ]

    assert shown == [[("read committed",)]] * 9


@every_level
def test_neither_producers_nor_workers_meet_the_serialization_of_others(
    open_storage: OpenStorage, database: psycopg.Connection[Any], level: str
) -> None:
    database_default(database, level)
    storages = [open_storage() for _ in range(4)]
    workers = [make_worker() for _ in storages]
    for storage, worker in zip(storages, workers, strict=True):
        storage.register(worker)
    failures: list[BaseException] = []
    batches = [
        [make_job(unique_key=f"{n}-{m}", concurrency_key=f"key {m % 3}", concurrency=2) for m in range(10)]
        for n in range(12)
    ]
    ended: Counter[str] = Counter()

    def produce(storage: PostgresStorage) -> None:
        # The same jobs from all: one of them stores each.
        for batch in batches:
            storage.enqueue(batch)
            storage.enqueue([make_job(unique_key="one of all"), make_job()])

    def work(storage: PostgresStorage, worker_id: str) -> None:
        outcomes: list[Outcome] = []
        for _ in range(40):
            claims = storage.exchange(worker_id, outcomes, want(5)).claims
            outcomes = [retry(each) if each.retry_count == 0 else complete(each) for each in claims]
            storage.heartbeat(worker_id, [])
            storage.sweep(10)
        recorded = storage.exchange(worker_id, outcomes, None).recorded
        ended.update(each.job_id for each in outcomes if each.job_id in recorded)

    def caught(call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=caught, args=(produce, storage)) for storage in storages]
    threads += [
        threading.Thread(target=caught, args=(work, storage, worker.id))
        for storage, worker in zip(storages, workers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)

    assert failures == []
    counts = storages[0].counts(exact=True).by_queue["default"]
    assert counts.complete > 0
    stored = database.execute("SELECT count(*), count(DISTINCT id) FROM taskito.jobs").fetchone()
    assert stored is not None
    assert stored[0] == stored[1] > 12 * 10 + 4 * 12


@every_level
def test_a_whole_queue_works_for_a_role_with_a_strict_default(
    database: psycopg.Connection[Any], postgres_url: str, level: str
) -> None:
    info = database.info
    role = f"strict_{info.dbname}"
    database.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'secret'".encode())
    database.execute(f"ALTER ROLE \"{role}\" SET default_transaction_isolation = '{level}'".encode())
    database.execute(f'GRANT CREATE ON DATABASE "{info.dbname}" TO "{role}"'.encode())
    try:
        url = f"postgresql://{role}:secret@{info.host}:{info.port}/{info.dbname}"
        with Queue(db_url=url) as queue:

            @queue.task
            def double(n: int) -> int:
                return 2 * n

            with queue.embedded_worker(threads=4):
                jobs = double.map(range(60))
                assert [job.result(60) for job in jobs] == [2 * n for n in range(60)]
            assert {job.status for job in jobs} == {JobStatus.COMPLETE}
    finally:
        database.execute(f'DROP OWNED BY "{role}" CASCADE'.encode())
        database.execute(f'DROP ROLE "{role}"'.encode())


def test_a_commit_that_the_server_refuses_is_an_error_of_the_store_and_stores_nothing(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage, worker = open_storage(), make_worker()
    storage.register(worker)
    database.execute(
        "CREATE FUNCTION taskito.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'not today'; END$$;"
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON taskito.jobs_live DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION taskito.refuse()"
    )
    for jobs in ([make_job()], [make_job(), make_job()], [make_job(unique_key="k")]):
        with pytest.raises(StorageError):
            storage.enqueue(jobs)
    assert storage.counts().by_queue == {}
    database.execute("DROP TRIGGER refuse ON taskito.jobs_live")

    [receipt] = storage.enqueue([make_job()])

    assert [each.id for each in storage.exchange(worker.id, [], want(1)).claims] == [receipt.id]


def test_after_commits_that_the_server_refused_a_worker_goes_on(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage, worker = open_storage(), make_worker()
    storage.register(worker)
    [receipt] = storage.enqueue([make_job()])
    database.execute(
        "CREATE FUNCTION taskito.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'not today'; END$$;"
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON taskito.jobs_live DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION taskito.refuse()"
    )
    for _ in range(20):  # psycopg reports it in two ways, by chance
        with pytest.raises(StorageError, match="refused the commit"):
            storage.exchange(worker.id, [], want(1))
        assert storage.heartbeat(worker.id, []).alive
    database.execute("DROP TRIGGER refuse ON taskito.jobs_live")

    assert [each.id for each in storage.exchange(worker.id, [], want(1)).claims] == [receipt.id]


@every_level
def test_sessions_behind_a_pooler_say_it_with_each_transaction_and_leave_none_open(
    storage: PostgresStorage, database: psycopg.Connection[Any], postgres_url: str, level: str
) -> None:
    # The server by itself, treated as if a pooler gave each transaction another session.
    storage.migrate()
    database_default(database, level)
    settings = Settings(schema="taskito")
    connection = psycopg.connect(postgres_url, autocommit=True, prepare_threshold=None)
    set_up(connection, settings)
    session = Session(connection, settings)
    show = b"SELECT current_setting('transaction_isolation'), current_setting('search_path')"
    try:
        for rows in (session.rows(show, {}), session.searched(show, {})):
            assert rows == [("read committed", '"taskito"')]
        with session.round_trip() as trip:
            first = trip.run(show, {})
            trip.commit()
            second = trip.run(show, {})
        assert first.fetchall() == second.fetchall() == [("read committed", '"taskito"')]
        with session.transaction():
            assert session.connection.execute(show).fetchall() == [("read committed", '"taskito"')]
        for wrong in (b"SELECT 1 / 0", b"SELECT %(missing)s"):
            with pytest.raises(psycopg.Error):
                session.rows(wrong, {})
            assert session.connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    finally:
        connection.close()
