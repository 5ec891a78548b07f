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
from taskito_postgres import location, wakeups
from taskito_postgres.storage import PostgresStorage
from taskito_postgres.wakeups import POLL_FIRST, POLL_LAST, WorkerWakeups
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
def waking(storage: PostgresStorage, worker: WorkerInfo) -> Iterator[Wakeups]:
    """Those of a registered worker that has found nothing to do."""
    storage.register(worker)
    waking = storage.listen(worker.id, worker.queues)
    assert claim(storage, worker.id, 10) == []
    yield waking
    waking.close()


@pytest.fixture
def notified(postgres_url: str) -> Iterator[Callable[[], list[str]]]:
    """What was notified on the channel of work since the last call."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"LISTEN {location.channel('taskito', 'work')}".encode())
        yield lambda: [each.payload for each in connection.notifies(timeout=0.2)]


def test_a_job_enqueued_elsewhere_wakes_a_worker_that_waits(
    open_storage: OpenStorage, storage: PostgresStorage, worker: WorkerInfo, waking: Wakeups
) -> None:
    producer = open_storage()
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(waking.wait(30.0)))
    thread.start()

    producer.enqueue([make_job()])
    thread.join(timeout=30)

    assert woken == [True]
    assert len(claim(storage, worker.id)) == 1


def test_a_job_for_another_queue_wakes_no_worker(
    storage: PostgresStorage, waking: Wakeups, notified: Callable[[], list[str]]
) -> None:
    storage.enqueue([make_job(queue="other")])

    assert notified() == []
    assert waking.wait(0.1) is False


def test_no_worker_is_notified_while_all_have_enough_to_do(
    storage: PostgresStorage, worker: WorkerInfo, waking: Wakeups, notified: Callable[[], list[str]]
) -> None:
    storage.enqueue([make_job() for _ in range(5)])
    assert notified() == ["default"]
    assert len(claim(storage, worker.id, 2)) == 2  # as many as were wanted: not waiting any more

    storage.enqueue([make_job()])

    assert notified() == []


def test_a_burst_of_single_jobs_notifies_a_few_times_and_once_after_the_last(
    storage: PostgresStorage, waking: Wakeups, notified: Callable[[], list[str]]
) -> None:
    start = time.monotonic()
    for _ in range(100):
        storage.enqueue([make_job()])
    took = time.monotonic() - start

    # One every 20 ms, and the trailing one.
    assert 1 <= len(notified()) <= took / 0.02 + 3


def test_jobs_that_a_worker_hands_back_wake_another_one(
    storage: PostgresStorage, waking: Wakeups, open_storage: OpenStorage
) -> None:
    leaving, other = open_storage(), make_worker()
    leaving.register(other)
    leaving.enqueue([make_job()])
    assert waking.wait(10.0) is True
    [claimed] = claim(leaving, other.id)

    leaving.exchange(other.id, [release(claimed)], None)

    assert waking.wait(10.0) is True


def test_a_listener_whose_connection_was_ended_polls_and_then_listens_again(
    storage: PostgresStorage,
    worker: WorkerInfo,
    waking: Wakeups,
    database: psycopg.Connection[Any],
    wait_until: WaitUntil,
) -> None:
    assert number(database, END_LISTENERS) == 1

    assert waking.wait(30.0) is True  # nothing is notified: poll
    wait_until(lambda: number(database, LISTENERS) == 1)
    wait_until(lambda: waking.wait(0.05) is False, message="a new connection is silent")

    assert claim(storage, worker.id, 10) == []
    storage.enqueue([make_job()])
    assert waking.wait(30.0) is True


def test_polling_slows_down_from_50_ms_to_1_s_and_starts_anew_with_work(
    open_storage: OpenStorage, storage: PostgresStorage
) -> None:
    progress = 0
    unreachable = open_storage("postgresql://nobody@127.0.0.1:1/nowhere")
    waking = WorkerWakeups(unreachable._connections, "nothing", ["default"], lambda: progress)
    try:
        pauses = [waking._next_poll() for _ in range(8)]
        assert pauses == sorted(pauses, key=lambda pause: pause > POLL_FIRST * 2)
        assert POLL_LAST * 0.75 <= pauses[-1] <= POLL_LAST
        progress = 1
        assert waking._next_poll() <= POLL_FIRST
        assert waking.wait(5.0) is True
    finally:
        waking.close()


def test_interrupt_ends_the_wait_that_is_and_the_one_to_come(waking: Wakeups) -> None:
    waking.interrupt()
    waking.interrupt()
    assert waking.wait(30.0) is False

    timer = threading.Timer(0.05, waking.interrupt)
    timer.start()
    assert waking.wait(30.0) is False
    timer.join()


def test_the_end_of_a_job_is_notified_at_once_to_all_that_wait(
    open_storage: OpenStorage,
    storage: PostgresStorage,
    worker: WorkerInfo,
    waking: Wakeups,
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
    wait_until(lambda: sum(len(events) for events in producer._finished._waiting.values()) == 6)

    storage.exchange(worker.id, [complete(each) for each in claims], None)
    for thread in waiting:
        thread.join(timeout=30)

    assert ends == [True] * 6


def test_the_end_of_a_job_is_seen_although_the_listener_was_ended(
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


def test_ids_of_many_awaited_jobs_are_notified_in_lists_that_fit() -> None:
    ids = [f"{number:032x}" for number in range(1000)] + ['with "quotes"', "x" * 2000]

    lists = wakeups.id_lists(ids)

    assert [job_id for text in lists for job_id in json.loads(text)] == ids
    assert max(len(text.encode()) for text in lists) < 8000
