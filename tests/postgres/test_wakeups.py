"""Wakeups across connections, and what happens when they are lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import Wakeups, WorkerInfo
from taskito_postgres import location
from taskito_postgres.ring import Ringer
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, make_job, make_worker, release

from .conftest import OpenStorage

END_LISTENERS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
)
LISTENERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
)


def number(database: psycopg.Connection[Any], statement: str) -> int:
    row = database.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def worker() -> WorkerInfo:
    return make_worker()


@pytest.fixture
def ear(storage: PostgresStorage, worker: WorkerInfo) -> Iterator[Wakeups]:
    """The ear of a registered worker that has found nothing to do."""
    storage.register(worker)
    ear = storage.listen(worker.id, worker.queues)
    assert claim(storage, worker.id, 10) == []
    yield ear
    ear.close()


@pytest.fixture
def heard(postgres_url: str) -> Iterator[Callable[[], list[str]]]:
    """What was notified on the channel of work since the last call."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"LISTEN {location.channel('taskito', 'work')}".encode())
        yield lambda: [each.payload for each in connection.notifies(timeout=0.2)]


def test_a_job_enqueued_elsewhere_wakes_a_worker_that_waits(
    open_storage: OpenStorage, storage: PostgresStorage, worker: WorkerInfo, ear: Wakeups
) -> None:
    producer = open_storage()
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(ear.wait(30.0)))
    thread.start()

    producer.enqueue([make_job()])
    thread.join(timeout=30)

    assert woken == [True]
    assert len(claim(storage, worker.id)) == 1


def test_a_job_for_another_queue_wakes_nobody(
    storage: PostgresStorage, ear: Wakeups, heard: Callable[[], list[str]]
) -> None:
    storage.enqueue([make_job(queue="other")])

    assert heard() == []
    assert ear.wait(0.1) is False


def test_nobody_is_notified_while_workers_have_enough_to_do(
    storage: PostgresStorage, worker: WorkerInfo, ear: Wakeups, heard: Callable[[], list[str]]
) -> None:
    storage.enqueue([make_job() for _ in range(5)])
    assert heard() == ["default"]
    assert len(claim(storage, worker.id, 2)) == 2  # as many as were wanted: not waiting any more

    storage.enqueue([make_job()])

    assert heard() == []


def test_a_burst_of_single_jobs_rings_a_few_times_and_once_after_the_last(
    storage: PostgresStorage, ear: Wakeups, heard: Callable[[], list[str]]
) -> None:
    start = time.monotonic()
    for _ in range(100):
        storage.enqueue([make_job()])
    took = time.monotonic() - start

    # One every 20 ms, and the trailing one.
    assert 1 <= len(heard()) <= took / 0.02 + 3


def test_jobs_that_a_worker_hands_back_wake_another_one(
    storage: PostgresStorage, ear: Wakeups, open_storage: OpenStorage
) -> None:
    leaving, other = open_storage(), make_worker()
    leaving.register(other)
    leaving.enqueue([make_job()])
    assert ear.wait(10.0) is True
    [claimed] = claim(leaving, other.id)

    leaving.exchange(other.id, [release(claimed)], None)

    assert ear.wait(10.0) is True


def test_an_ear_whose_connection_was_ended_polls_and_then_hears_again(
    storage: PostgresStorage,
    worker: WorkerInfo,
    ear: Wakeups,
    database: psycopg.Connection[Any],
    wait_until: WaitUntil,
) -> None:
    assert number(database, END_LISTENERS) == 1

    assert ear.wait(30.0) is True  # nobody tells: look
    wait_until(lambda: number(database, LISTENERS) == 1)
    wait_until(lambda: ear.wait(0.05) is False, message="a new line is silent")

    assert claim(storage, worker.id, 10) == []
    storage.enqueue([make_job()])
    assert ear.wait(30.0) is True


def test_polling_slows_down_from_50_ms_to_1_s_and_starts_anew_with_work(
    open_storage: OpenStorage, storage: PostgresStorage
) -> None:
    progress = 0
    from taskito_postgres.listen import POLL_FIRST, POLL_LAST, Ear

    unreachable = open_storage("postgresql://nobody@127.0.0.1:1/nowhere")
    ear = Ear(unreachable._connections, "nothing", ["default"], lambda: progress)
    try:
        pauses = [ear._next_poll() for _ in range(8)]
        assert pauses == sorted(pauses, key=lambda pause: pause > POLL_FIRST * 2)
        assert POLL_LAST * 0.75 <= pauses[-1] <= POLL_LAST
        progress = 1
        assert ear._next_poll() <= POLL_FIRST
        assert ear.wait(5.0) is True
    finally:
        ear.close()


def test_interrupt_ends_the_wait_that_is_and_the_one_to_come(ear: Wakeups) -> None:
    ear.interrupt()
    ear.interrupt()
    assert ear.wait(30.0) is False

    timer = threading.Timer(0.05, ear.interrupt)
    timer.start()
    assert ear.wait(30.0) is False
    timer.join()


def test_the_end_of_a_job_is_heard_at_once_and_by_all_who_wait(
    open_storage: OpenStorage,
    storage: PostgresStorage,
    worker: WorkerInfo,
    ear: Wakeups,
    wait_until: WaitUntil,
) -> None:
    producer = open_storage()
    receipts = producer.enqueue([make_job() for _ in range(3)])
    claims = claim(storage, worker.id, 3)
    ends: list[bool] = []
    waiting = [
        threading.Thread(target=lambda job_id=receipt.id: ends.append(producer.await_finished(job_id, 60.0)))
        for receipt in receipts
        for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: sum(len(events) for events in producer._finishes._waiting.values()) == 6)

    storage.exchange(worker.id, [complete(each) for each in claims], None)
    for thread in waiting:
        thread.join(timeout=30)

    assert ends == [True] * 6


def test_the_end_of_a_job_is_noticed_although_the_listener_was_ended(
    storage: PostgresStorage, worker: WorkerInfo, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    storage.register(worker)
    [receipt] = storage.enqueue([make_job()])
    [claimed] = claim(storage, worker.id)
    ends: list[bool] = []
    thread = threading.Thread(target=lambda: ends.append(storage.await_finished(receipt.id, 60.0)))
    thread.start()
    wait_until(lambda: number(database, END_LISTENERS) == 1)

    storage.exchange(worker.id, [complete(claimed)], None)
    thread.join(timeout=30)

    assert ends == [True]


def test_ids_of_many_awaited_jobs_are_told_in_pieces_that_fit() -> None:
    from taskito_postgres.follow import chunks

    ids = [f"{number:032x}" for number in range(1000)] + ['with "quotes"', "x" * 2000]

    chunks = chunks(ids)

    assert [job_id for chunk in chunks for job_id in json.loads(chunk)] == ids
    assert max(len(chunk.encode()) for chunk in chunks) < 8000


def test_a_ringer_sends_the_last_ring_when_it_is_closed() -> None:
    sent: list[list[str]] = []
    ringer = Ringer(sent.append)

    assert ringer.may_ring() is True
    ringer.rang()
    assert ringer.may_ring() is False
    ringer.later({"b"})
    ringer.later({"b", "a"})
    ringer.close()

    assert sorted(queue for queues in sent for queue in queues) == ["a", "b"]


def test_a_ringer_whose_ring_fails_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[list[str]] = []

    def send(queues: list[str]) -> None:
        sent.append(queues)
        raise OSError("no server")

    ringer = Ringer(send)
    ringer.later({"a"})
    ringer.close()
    ringer.later({"b"})
    ringer.close()

    assert sent == [["a"], ["b"]]
