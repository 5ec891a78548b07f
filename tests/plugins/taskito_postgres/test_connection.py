"""How many connections there are, when, and what happens to them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import StorageError, StorageUnavailable
from taskito_testing.factories import claim, complete, make_job, make_worker

from .conftest import OpenStorage

COUNT = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'taskito'"
)
END_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'taskito'"
)


def connected(database: psycopg.Connection[Any]) -> int:
    row = database.execute(COUNT.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_making_a_storage_opens_nothing(open_storage: OpenStorage, database: psycopg.Connection[Any]) -> None:
    open_storage()

    assert connected(database) == 0


def test_a_producer_that_works_alone_holds_one_connection(
    open_storage: OpenStorage, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    storage = open_storage()

    for _ in range(5):
        storage.enqueue([make_job()])
        storage.counts()

    wait_until(lambda: connected(database) == 1)


def test_a_worker_holds_two_connections(
    open_storage: OpenStorage, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    storage, worker = open_storage(), make_worker()
    storage.register(worker)
    waking = storage.listen(worker.id, worker.queues)

    storage.heartbeat(worker.id, [])
    claim(storage, worker.id)
    storage.rescue({})
    storage.prune(10)

    wait_until(lambda: connected(database) == 2)
    waking.close()


def test_the_pool_never_grows_beyond_its_size(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage = open_storage(pool_size=3)
    most = 0

    def enqueue(_: int) -> None:
        nonlocal most
        storage.enqueue([make_job()])
        most = max(most, storage._connections.on_pool("count", lambda s: s.rows(COUNT.encode(), {})[0][0]))

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(enqueue, range(120)))

    assert 1 < most <= 3
    assert storage.counts().by_queue["default"].pending == 120


def test_close_leaves_no_connection_and_no_thread_and_the_storage_opens_again(
    open_storage: OpenStorage, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    before = set(threading.enumerate())
    storage = open_storage()
    [receipt] = storage.enqueue([make_job()])
    assert storage.await_finished(receipt.id, 0.05) is False

    storage.close()
    storage.close()

    assert set(threading.enumerate()) == before
    wait_until(lambda: connected(database) == 0)
    assert storage.get([receipt.id])


def test_lost_connections_are_replaced_and_enqueue_does_not_even_fail(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage, worker = open_storage(), make_worker()
    storage.register(worker)
    storage.enqueue([make_job()])
    for _ in range(3):
        database.execute(END_ALL.encode())

        assert storage.enqueue([make_job()])[0].inserted

    database.execute(END_ALL.encode())
    with pytest.raises(StorageError):  # the worker hears of it, and sends the same again
        storage.exchange(worker.id, [], None)
    claims = claim(storage, worker.id, 10)
    assert len(claims) == 4
    assert len(storage.exchange(worker.id, [complete(each) for each in claims], None).recorded) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_server_that_cannot_be_reached_is_tried_once(open_storage: OpenStorage) -> None:
    tried = 0
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            nonlocal tried
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()
                    tried += 1

        thread = threading.Thread(target=hang_up)
        thread.start()
        port = server.getsockname()[1]
        storage = open_storage(f"postgresql://127.0.0.1:{port}/db?sslmode=disable&gssencmode=disable")

        with pytest.raises(StorageUnavailable):
            storage.enqueue([make_job()])

        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert tried == 1


def test_a_forked_child_cannot_reach_the_parents_connections(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage, worker = open_storage(), make_worker()
    storage.register(worker)
    storage.enqueue([make_job()])
    before = connected(database)

    child = os.fork()
    if child == 0:
        code = 1
        try:
            storage.enqueue([make_job()])
        except StorageError as error:
            code = 0 if "fork" in str(error) else 2
        storage.close()
        assert storage._connections._worker is not None
        storage._connections._worker.connection.pgconn.finish()  # the worst that could happen
        os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert connected(database) == before
    assert len(claim(storage, worker.id, 5)) == 1
    assert storage.counts().by_queue["default"].running == 1


def test_statements_on_the_worker_connection_end_before_the_next_beat(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage, worker = open_storage(), make_worker()
    storage.register(worker)

    shown = storage._connections.on_worker("look", lambda s: s.rows(b"SHOW statement_timeout", {}))

    assert shown == [("4s",)]


@pytest.mark.parametrize(("durability", "commits"), [("power", "on"), ("process", "off")])
def test_durability_decides_how_commits_are_waited_for(
    open_storage: OpenStorage, durability: str, commits: str
) -> None:
    storage = open_storage(durability=durability)

    for use in (storage._connections.on_pool, storage._connections.on_worker):
        assert use("look", lambda s: s.rows(b"SHOW synchronous_commit", {})) == [(commits,)]


def test_an_unreachable_server_is_storage_unavailable_and_keeps_the_password(
    open_storage: OpenStorage,
) -> None:
    # Port 1 on loopback refuses at once.
    storage = open_storage("postgresql://app:hunter2@127.0.0.1:1/myapp?sslpassword=hunter3")

    with pytest.raises(StorageUnavailable) as caught:
        storage.enqueue([make_job()])

    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    shown = f"{caught.value} {caught.value.__cause__} {storage!r}"
    assert "hunter" not in shown
    assert "127.0.0.1:1" in str(caught.value)


def test_a_url_that_libpq_does_not_understand_keeps_the_password(open_storage: OpenStorage) -> None:
    storage = open_storage("postgresql://app:hunter2@127.0.0.1:1/myapp?no_such_option=1")

    with pytest.raises(StorageError) as caught:
        storage.now()

    assert "hunter2" not in str(caught.value)


def test_lost_connections_are_told_in_our_words_and_not_in_the_drivers(
    open_storage: OpenStorage, database: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage()
    worker = make_worker()
    storage.register(worker)
    job = make_job()
    storage.enqueue([job])
    claim(storage, worker.id)
    ending = threading.Timer(0.2, database.execute, (END_ALL.encode(),))
    ending.start()
    storage.await_finished(job.id, 0.6)
    ending.join()

    # Calls that may not be made twice meet connections that are gone.
    for call in (lambda: storage.enqueue([make_job()]), lambda: claim(storage, worker.id)):
        with contextlib.suppress(StorageUnavailable):
            call()

    assert storage.counts()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("psycopg")] == []
