"""A server that others use too: PgBouncer in transaction mode, foreign search paths, few rights."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from taskito import MaxRetriesExceededError, Queue
from taskito_core import Outcome, new_id
from taskito_postgres.session import is_pooled
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, dead, make_job, make_worker, retry, want
from tools import pgbouncer

from .conftest import OpenStorage

pytestmark = pytest.mark.skipif(
    pgbouncer.installed() is None,
    reason="PgBouncer is not here; `make test` or `python -m tools.pgbouncer` brings it",
)


@pytest.fixture
def pooled_url(postgres_url: str) -> Iterator[str]:
    """The test's database through a pooler that has two server connections for everybody."""
    with pgbouncer.pooler(postgres_url) as url:
        yield url


def test_a_pooler_is_noticed_and_a_direct_connection_is_not_taken_for_one(
    pooled_url: str, postgres_url: str
) -> None:
    for url, pooled in ((pooled_url, True), (postgres_url, False)):
        with psycopg.connect(url, autocommit=True) as connection:
            assert is_pooled(connection) is pooled


def test_everything_works_with_a_new_session_for_each_transaction(
    open_storage: OpenStorage, pooled_url: str
) -> None:
    storages = [open_storage(pooled_url) for _ in range(3)]
    workers = [make_worker() for _ in storages]
    for storage, worker in zip(storages, workers, strict=True):
        storage.register(worker)
    storages[0].enqueue([make_job() for _ in range(30)])
    storages[1].enqueue([make_job() for _ in range(2500)])

    done = 0
    for _ in range(4):
        for storage, worker in zip(storages, workers, strict=True):
            claims = claim(storage, worker.id, 6)
            outcomes: list[Outcome] = [
                retry(claims[0]),
                dead(claims[1]),
                *(complete(each) for each in claims[2:]),
            ]
            done += len(storage.exchange(worker.id, outcomes, None).recorded)
            storage.heartbeat(worker.id, [])

    assert done == 72
    counts = storages[2].counts().by_queue["default"]
    assert (counts.complete, counts.dead, counts.failed) == (48, 12, 12)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_transactions_see_what_others_commit_whatever_the_default_of_the_sessions_is(
    open_storage: OpenStorage, pooled_url: str, database: psycopg.Connection[Any], level: str
) -> None:
    name = database.info.dbname
    database.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{level}'".encode())
    storage, worker = open_storage(pooled_url), make_worker()
    storage.register(worker)
    ask = b"SELECT current_setting('transaction_isolation')"
    for use in (storage._connections.on_pool, storage._connections.on_worker):
        assert use("look", lambda session: session.rows(ask, {})) == [("read committed",)]
        assert use("look", lambda session: session.searched(ask, {})) == [("read committed",)]

    storage.enqueue([make_job(unique_key=f"key {n}", concurrency_key="k", concurrency=9) for n in range(9)])

    assert len(claim(storage, worker.id, 20)) == 9
    with psycopg.connect(pooled_url) as other:
        assert other.execute("SHOW transaction_isolation").fetchone() == (level,)


def test_many_at_once_share_few_sessions_and_nobody_waits_for_lost_answers(
    open_storage: OpenStorage, pooled_url: str
) -> None:
    storages = [open_storage(pooled_url) for _ in range(12)]
    workers = [make_worker() for _ in storages]
    for storage, worker in zip(storages, workers, strict=True):
        storage.register(worker)
    done: list[int] = []

    def work(storage: PostgresStorage, worker_id: str) -> None:
        for _ in range(100):
            storage.enqueue([make_job()])
            for claimed in claim(storage, worker_id, 3):
                done.append(len(storage.exchange(worker_id, [complete(claimed)], None).recorded))

    threads = [
        threading.Thread(target=work, args=(storage, worker.id), daemon=True)
        for storage, worker in zip(storages, workers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)
    assert set(done) == {1}


@contextmanager
def computing() -> Iterator[None]:
    """Threads of the application that leave the others little time between two sends."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_connection_that_idles_holds_none_of_the_poolers(
    open_storage: OpenStorage, postgres_url: str
) -> None:
    with pgbouncer.pooler(postgres_url, 1) as url:
        one, other, worker = open_storage(url), open_storage(url), make_worker()
        one.register(worker)
        longest = 0.0
        with computing():
            for _ in range(100):
                one.peek(["default"], ["lane"])
                began = time.monotonic()
                other.now()
                longest = max(longest, time.monotonic() - began)
                assert longest < 5.0
        one.close()
        other.close()


def test_the_server_ends_the_transaction_of_a_worker_that_stands_still(
    open_storage: OpenStorage, pooled_url: str
) -> None:
    ask = b"SELECT current_setting('idle_in_transaction_session_timeout')"
    storage = open_storage(pooled_url)

    assert storage._connections.on_worker("look", lambda session: session.rows(ask, {})) == [("20s",)]
    assert storage._connections.on_pool("look", lambda session: session.rows(ask, {})) == [("1min",)]


def test_nothing_is_left_behind_on_the_sessions_of_others(open_storage: OpenStorage, pooled_url: str) -> None:
    storage, worker = open_storage(pooled_url, durability="process"), make_worker()
    storage.register(worker)
    storage.enqueue([make_job()])
    claim(storage, worker.id)

    settings = ["search_path", "enable_seqscan", "plan_cache_mode", "statement_timeout", "synchronous_commit"]
    with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=None) as other:

        def shown(name: str) -> Any:
            return other.execute(
                "SELECT setting = reset_val FROM pg_settings WHERE name = %s", (name,)
            ).fetchone()

        for _ in range(10):
            assert [shown(name) for name in settings] == [(True,)] * len(settings)
        assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_worker_behind_a_pooler_polls_and_a_waiting_producer_too(
    open_storage: OpenStorage, pooled_url: str
) -> None:
    storage, worker = open_storage(pooled_url), make_worker()
    storage.register(worker)
    waking = storage.listen(worker.id, worker.queues)
    assert claim(storage, worker.id) == []
    [receipt] = storage.enqueue([make_job()])

    assert waking.wait(30.0) is True
    waking.close()

    [claimed] = claim(storage, worker.id)
    storage.exchange(worker.id, [complete(claimed)], None)
    assert storage.await_finished(receipt.id, 30.0) is True


def test_gates_keys_and_the_callers_transaction_work_behind_a_pooler(
    open_storage: OpenStorage, pooled_url: str
) -> None:
    storage, worker = open_storage(pooled_url), make_worker()
    storage.register(worker)
    parent = make_job(concurrency_key="key", concurrency=1, unique_key="k", priority=1)
    child, next_of_key = make_job(parents=(parent.id,)), make_job(concurrency_key="key", concurrency=1)
    assert all(receipt.inserted for receipt in storage.enqueue([parent, child, next_of_key]))
    with psycopg.connect(pooled_url, prepare_threshold=None) as connection:
        [within] = storage.enqueue([make_job(parents=(parent.id,))], connection=connection)
        [claimed] = claim(storage, worker.id, 5)
        assert storage.complete_in(connection, complete(claimed))
        connection.commit()

    answer = storage.exchange(worker.id, [complete(claimed)], want(9))

    assert sorted(each.id for each in answer.claims) == sorted([child.id, next_of_key.id, within.id])
    assert storage.ask_to_cancel([child.id], force=False) == [child.id]
    assert dict(storage.heartbeat(worker.id, []).cancels) == {child.id: False}
    assert storage.pause("default") is storage.resume("default") is True
    replayed = storage.replay(claimed.id, new_id())
    assert replayed is not None
    assert storage.cancel([replayed.id], "not wanted") == [replayed.id]
    assert storage.sweep(10).opened == []


# ---- S36: whatever search_path others leave behind ----


def spoil_every_session(url: str, statement: str) -> None:
    """Run ``statement`` outside of a transaction's undoing on both server connections of the pooler."""
    with (
        psycopg.connect(url, prepare_threshold=None) as one,
        psycopg.connect(url, prepare_threshold=None) as two,
    ):
        pids = {each.execute("SELECT pg_backend_pid()").fetchone() for each in (one, two)}
        assert len(pids) == 2
        one.execute(statement.encode())
        two.execute(statement.encode())


def make_a_trap(url: str) -> None:
    """A schema with tables of our names that nothing fits."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA trap")
        for table in ("jobs", "jobs_live", "jobs_done", "workers", "dead_letter", "job_errors"):
            connection.execute(f"CREATE TABLE trap.{table} (x int)".encode())


def test_s36_a_search_path_left_on_shared_sessions_changes_nothing(
    open_storage: OpenStorage, pooled_url: str, postgres_url: str
) -> None:
    storage, worker = open_storage(pooled_url), make_worker()
    storage.register(worker)
    make_a_trap(postgres_url)

    for number in range(1, 4):
        spoil_every_session(pooled_url, "SET search_path = trap")
        storage.enqueue([make_job()])
        [claimed] = claim(storage, worker.id)
        storage.exchange(worker.id, [dead(claimed)], None)
        storage.heartbeat(worker.id, [])
        assert len(storage.letters([claimed.id])) == storage.counts().by_queue["default"].dead // number == 1


@pytest.mark.parametrize("way", ["pooled", "direct"])
def test_s36_a_task_that_changes_the_search_path_disturbs_nobody(
    pooled_url: str, postgres_url: str, way: str
) -> None:
    url = pooled_url if way == "pooled" else postgres_url
    with Queue(db_url=url, default_retry=0) as queue:

        @queue.task
        def spoil(x: int) -> int:
            spoil_every_session(url, "SET search_path = trap")
            # The connection that a task's own use of the queue goes through is changed as well.
            pool = queue.storage._connections  # type: ignore[attr-defined]
            for statement in (b"SET search_path = trap", b"DISCARD ALL")[: 1 + x % 2]:
                pool.on_pool("spoil", lambda session, text=statement: session.connection.execute(text))
            follow_up.delay(x)
            return x

        @queue.task
        def follow_up(x: int) -> None:
            seen.append(x)

        seen: list[int] = []
        queue.storage.migrate()
        make_a_trap(postgres_url)
        # One thread: two tasks that each hold one of the pooler's two sessions would wait for each other.
        with queue.embedded_worker(threads=1):
            assert [job.result(60) for job in spoil.map(range(6))] == list(range(6))
            for job in queue.list_jobs(task_name=follow_up.name):
                job.result(60)

    assert sorted(seen) == list(range(6))


# ---- S4: a server of another owner ----


def test_s4_a_role_without_create_produces_and_works_once_the_schema_exists(postgres_url: str) -> None:
    with Queue(db_url=postgres_url) as owner:
        owner.storage.migrate()
    role = f"guest_{new_id()[-8:]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f'REVOKE CREATE, TEMPORARY ON DATABASE "{admin.info.dbname}" FROM PUBLIC',
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            f"GRANT USAGE ON SCHEMA taskito TO {role}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA taskito TO {role}",
        ):
            admin.execute(statement.encode())
        try:
            with Queue(db_url=f"postgresql://{role}@{postgres_url.rpartition('@')[2]}") as queue:
                task = queue.task(name="t", max_retries=1, retry_delays=[0.0])(lambda x: 1 // x)
                with queue.embedded_worker(threads=2):
                    assert [job.result(60) for job in task.map([1] * 20)] == [1] * 20
                    with pytest.raises(MaxRetriesExceededError):
                        task.delay(0).result(60)
                assert queue.stats()["complete"] == 20
                assert queue.storage.pause("elsewhere")
                [parent, child] = [
                    make_job(queue="elsewhere", concurrency_key="k", concurrency=1),
                    make_job(),
                ]
                queue.storage.enqueue([parent, replace(child, parents=(parent.id,))])
                assert queue.storage.cancel([parent.id], "not wanted") == [parent.id]
                assert sorted(queue.storage.delete([parent.id, child.id])) == sorted([parent.id, child.id])
        finally:
            admin.execute(f"DROP OWNED BY {role}".encode())
            admin.execute(f"DROP ROLE {role}".encode())
