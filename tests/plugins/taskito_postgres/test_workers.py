"""Rescue from processes that stand still in the middle of a transaction, and which sessions it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import StorageUnavailable, new_id
from taskito_postgres import workers
from taskito_postgres.session import RoundTrip, Session
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, make_job, make_worker

from .conftest import OpenStorage

Stop = Callable[[PostgresStorage, str, Callable[[RoundTrip], None]], None]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FROZEN_AFTER", 0.2)


@pytest.fixture
def freeze() -> Iterator[Stop]:
    """``freeze(storage, "on_worker", send)``: a thread stands still behind what ``send`` sent."""
    thaw = threading.Event()
    with ExitStack() as threads:
        threads.callback(thaw.set)

        def start(storage: PostgresStorage, connections: str, send: Callable[[RoundTrip], None]) -> None:
            sent = threading.Event()

            def work(session: Session) -> None:
                with session.round_trip() as trip:
                    send(trip)
                    sent.set()
                    thaw.wait(60)

            def stand_still() -> None:
                with suppress(StorageUnavailable):
                    getattr(storage._connections, connections)("stand still", work)

            thread = threading.Thread(target=stand_still)
            thread.start()
            threads.callback(thread.join)
            threads.callback(thaw.set)
            assert sent.wait(20)

        yield start


def standing(database: psycopg.Connection[Any]) -> list[int]:
    """The sessions that the server waits for, since a while."""
    return [
        row[0]
        for row in database.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
            " AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - interval '0.3 s'"
        )
    ]


def test_what_a_frozen_worker_was_recording_and_claiming_is_free_again_at_its_rescue(
    open_storage: OpenStorage, worker_id: str, storage: PostgresStorage, freeze: Stop,
    database: psycopg.Connection[Any], wait_until: WaitUntil,
) -> None:  # fmt: skip
    frozen, dead = open_storage(), make_worker()
    frozen.register(dead)
    jobs = [make_job() for _ in range(10)]
    storage.enqueue(jobs)
    running = claim(frozen, dead.id, 5)
    beat = next(peer.beat for peer in storage.heartbeat(worker_id, []).peers if peer.worker_id == dead.id)

    def record_and_claim(trip: RoundTrip) -> None:
        ids = {"ids": [each.id for each in running]}
        trip.run(b"UPDATE taskito.jobs_live SET result = 'x' WHERE id = ANY (%(ids)s)", ids)
        trip.run(b"UPDATE taskito.jobs_live SET lane = 'x' WHERE status = 'pending'", {})

    freeze(frozen, "on_worker", record_and_claim)
    wait_until(lambda: len(standing(database)) == 1)
    assert claim(storage, worker_id, 10) == []

    rescued = storage.rescue({dead.id: beat})

    assert sorted(rescued) == sorted(each.id for each in running)
    assert {each.id for each in claim(storage, worker_id, 20)} == {job.id for job in jobs}


def test_a_frozen_producer_does_not_keep_a_unique_key_for_ever(
    open_storage: OpenStorage, storage: PostgresStorage, freeze: Stop,
    database: psycopg.Connection[Any], wait_until: WaitUntil,
) -> None:  # fmt: skip
    storage.migrate()
    frozen = open_storage()

    def take_the_key(trip: RoundTrip) -> None:
        trip.run(
            b"INSERT INTO taskito.jobs_live"
            b" (id, task_name, payload, queue, unique_key, created_at, scheduled_at)"
            b" VALUES (%(id)s, 't', '', 'default', 'key', 0, 0)",
            {"id": new_id()},
        )

    freeze(frozen, "on_pool", take_the_key)
    wait_until(lambda: len(standing(database)) == 1)

    assert storage.rescue({}) == []

    [receipt] = storage.enqueue([make_job(unique_key="key")])
    assert receipt.inserted


def test_the_transactions_of_the_application_are_left_alone_and_so_is_a_long_copy(
    open_storage: OpenStorage, storage: PostgresStorage, worker_id: str, postgres_url: str,
    database: psycopg.Connection[Any], wait_until: WaitUntil,
) -> None:  # fmt: skip
    storage.enqueue([make_job()])
    [claimed] = claim(storage, worker_id)
    producer = open_storage()

    @contextmanager
    def copying(session: Session) -> Iterator[None]:
        with (
            session.connection.transaction(),
            session.connection.cursor().copy("COPY taskito.dead_letter FROM STDIN"),
        ):
            yield

    def copy_and_rescue(session: Session) -> None:
        with copying(session), psycopg.connect(postgres_url) as own, own.pipeline():
            storage.complete_in(own, complete(claimed))
            own.execute("SELECT 1")
            own.execute("UPDATE taskito.workers SET app = app")
            wait_until(lambda: len(standing(database)) == 2)
            assert storage.rescue({}) == []

    producer._connections.on_pool("copy", copy_and_rescue)

    assert storage.get([claimed.id])[0].status.finished


def test_a_session_that_this_role_may_not_end_is_named_and_the_rest_is_rescued(
    open_storage: OpenStorage, storage: PostgresStorage, worker_id: str, postgres_url: str, freeze: Stop,
    database: psycopg.Connection[Any], wait_until: WaitUntil, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    role, dead = f"guest_{new_id()[-8:]}", make_worker()
    storage.register(dead)
    storage.enqueue([make_job(), make_job()])
    first, second = claim(storage, dead.id, 2)
    storage.unregister(worker_id)
    for statement in (
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA taskito TO {role}",
        f"GRANT pg_read_all_stats TO {role}",  # it sees what it may not end
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA taskito TO {role}",
    ):
        database.execute(statement.encode())
    try:
        guest = open_storage(f"postgresql://{role}@{postgres_url.rpartition('@')[2]}")
        hold = b"UPDATE taskito.jobs_live SET result = 'x' WHERE id = %(id)s"
        freeze(storage, "on_worker", lambda trip: trip.run(hold, {"id": first.id}) and None)
        wait_until(lambda: len(standing(database)) == 1)

        assert guest.rescue({dead.id: 0}) == [second.id]

        assert "this role may not end it" in caplog.text
        assert len(standing(database)) == 1
        guest.close()
    finally:
        database.execute(f"DROP OWNED BY {role}".encode())
        database.execute(f"DROP ROLE {role}".encode())


def test_a_heartbeat_waits_for_no_connection_in_use_and_tells_once_what_the_other_waits_for(
    open_storage: OpenStorage, database: psycopg.Connection[Any], wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    storage, worker, over = open_storage(pool_size=1), make_worker(), threading.Event()
    storage.register(worker)
    sleeps = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    exchange = threading.Thread(
        target=storage._connections.on_worker,
        args=("sleep", lambda session: session.rows(b"SELECT pg_sleep(3)", {})),
    )
    producer = threading.Thread(
        target=storage._connections.on_pool, args=("wait", lambda session: over.wait(30))
    )
    exchange.start()
    producer.start()
    try:
        wait_until(lambda: database.execute(sleeps.encode()).fetchone() == (1,))

        assert storage.heartbeat(worker.id, []).alive
        assert storage.heartbeat(worker.id, []).alive

        assert database.execute(sleeps.encode()).fetchone() == (1,), "it still sleeps"
    finally:
        over.set()
        exchange.join()
        producer.join()
    [info] = storage.workers()
    assert info.beat == 2
    assert caplog.text.count("a statement of this worker has waited") == 1
    assert "PgSleep" in caplog.text


def test_a_server_notices_that_the_host_of_a_session_is_gone(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage = open_storage()
    shown = b"SELECT name, setting FROM pg_settings WHERE name = ANY (%(names)s)"
    names = ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"]
    newer = database.info.server_version >= 17_00_00
    for use in (storage._connections.on_pool, storage._connections.on_worker):
        rows = use("look", lambda session: session.rows(shown, {"names": names}))
        assert dict(rows) == dict(zip(names, ["10", "5", "3", "25000"], strict=True))
        limit = use("look", lambda session: session.rows(shown, {"names": ["transaction_timeout"]}))
        assert dict(limit).get("transaction_timeout", "0") == (
            "20000" if newer and use == storage._connections.on_worker else "0"
        )
