"""The hot statements: what they do when others are at the same rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import Claim, ErrorKind, JobStatus, Outcome
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    release,
    retry,
    want,
)

from .conftest import OpenStorage

#: How often two are let loose on the same row.
TRIES = 10


def someone_is_blocked(database: psycopg.Connection[Any]) -> bool:
    """Does one session wait for a row that another transaction has changed?"""
    return blocked(database) == 1


def blocked(database: psycopg.Connection[Any]) -> int:
    """How many sessions do."""
    waits = "NOT granted AND locktype IN ('transactionid', 'tuple')"
    [(count,)] = database.execute(f"SELECT count(*) FROM pg_locks WHERE {waits}".encode()).fetchall()
    return int(count)


def test_a_settle_that_meets_a_move_of_the_same_row_is_tried_again_at_once(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    storage.enqueue([make_job() for _ in range(5)])
    claims = claim(storage, worker_id, 5)
    answers = []
    with database.transaction():
        database.execute(
            "UPDATE taskito.jobs SET finished = true, status = 'cancelled' WHERE id = %s AND NOT finished",
            (claims[2].id,),
        )
        thread = threading.Thread(
            target=lambda: answers.append(
                storage.exchange(worker_id, [complete(each) for each in claims], want(1))
            )
        )
        thread.start()
        wait_until(lambda: someone_is_blocked(database))
    thread.join(timeout=30)

    # The cancelled one keeps the token it had, and is not complete: it was not recorded.
    assert answers[0].recorded == {each.id for each in claims} - {claims[2].id}


def test_producers_with_crossed_orders_never_deadlock(open_storage: OpenStorage) -> None:
    storage = open_storage()
    storage.migrate()
    jobs = [make_job() for _ in range(200)]

    with ThreadPoolExecutor(4) as threads:
        sent = list(
            threads.map(storage.enqueue, [jobs, jobs[::-1], jobs[100:] + jobs[:100], jobs[::2] + jobs[1::2]])
        )

    assert sum(receipt.inserted for receipts in sent for receipt in receipts) == 200


@pytest.mark.parametrize("count", [1, 2500], ids=["by arrays", "by COPY"])
def test_the_same_jobs_again_while_and_after_they_finish_store_nothing(
    storage: PostgresStorage, worker_id: str, count: int
) -> None:
    jobs = [make_job() for _ in range(count)]
    assert all(receipt.inserted for receipt in storage.enqueue(jobs))
    half = claim(storage, worker_id, (count + 1) // 2)
    storage.exchange(worker_id, [complete(each) for each in half], None)

    again = storage.enqueue([*jobs, make_job(id=jobs[0].id)])
    fresh = make_job()

    assert not any(receipt.inserted for receipt in again)
    assert [receipt.inserted for receipt in storage.enqueue([fresh, *jobs, fresh])] == [True] + [False] * (
        count + 1
    )
    found = storage.counts().by_queue["default"]
    assert (found.complete, found.pending) == (len(half), count - len(half) + 1)


def test_a_job_that_finishes_while_it_is_sent_again_is_not_stored_twice(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    job = make_job()
    storage.enqueue([job])
    receipts: list[Any] = []
    with database.transaction():
        database.execute(
            "UPDATE taskito.jobs SET finished = true, status = 'cancelled' WHERE id = %s", (job.id,)
        )
        thread = threading.Thread(target=lambda: receipts.extend(storage.enqueue([job])))
        thread.start()
        wait_until(lambda: someone_is_blocked(database))
    thread.join(timeout=30)

    assert [receipt.inserted for receipt in receipts] == [False]
    assert [found.status for found in storage.get([job.id])] == [JobStatus.CANCELLED]


def test_a_late_retry_of_a_rescued_job_is_not_taken_for_an_earlier_sending(
    storage: PostgresStorage, worker_id: str
) -> None:
    claimed = enqueue_and_claim(storage, worker_id)
    [beat] = [worker.beat for worker in storage.workers()]
    assert storage.rescue({worker_id: beat}) == [claimed.id]

    late: list[Outcome] = [retry(claimed), dead(claimed), complete(claimed)]

    assert all(storage.exchange(worker_id, [outcome], None).recorded == frozenset() for outcome in late)
    [error] = storage.errors(claimed.id)
    assert error.kind is ErrorKind.INTERRUPTED
    assert worker_id in error.message


@pytest.mark.parametrize("kind", [complete, retry, dead, release])
def test_an_outcome_whose_row_changes_at_that_moment_is_recorded_all_the_same(
    storage: PostgresStorage,
    worker_id: str,
    database: psycopg.Connection[Any],
    wait_until: WaitUntil,
    kind: Callable[[Claim], Outcome],
) -> None:
    storage.enqueue([make_job() for _ in range(3)])
    claims = claim(storage, worker_id, 3)
    answers = []
    with database.transaction():
        # What somebody does who begins to wait for the result.
        database.execute("UPDATE taskito.jobs_live SET awaited = true WHERE id = %s", (claims[1].id,))
        thread = threading.Thread(
            target=lambda: answers.append(storage.exchange(worker_id, [kind(each) for each in claims], None))
        )
        thread.start()
        wait_until(lambda: someone_is_blocked(database))
    thread.join(timeout=30)

    assert answers[0].recorded == {each.id for each in claims}


def test_an_outcome_whose_row_changes_twice_is_recorded_all_the_same(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    # What two producers do, one after the other, who each store a child of the job.
    touch = "UPDATE taskito.jobs_live SET awaited = awaited WHERE id = %s"
    with ThreadPoolExecutor(2) as threads, psycopg.connect(database.info.dsn) as second:
        for _ in range(TRIES):
            claimed = enqueue_and_claim(storage, worker_id)
            with database.transaction():
                database.execute(touch, (claimed.id,))
                settling = threads.submit(storage.exchange, worker_id, [complete(claimed)], None)
                wait_until(lambda: blocked(database) == 1)
                # Stands in line behind the settler, and is often ahead of its next try.
                touching = threads.submit(second.execute, touch, (claimed.id,))
                wait_until(lambda: blocked(database) == 2)
            touching.exception(30)
            wait_until(lambda settling=settling: settling.done() or blocked(database) == 1)
            second.commit()

            assert settling.result(30).recorded == {claimed.id}


def test_a_due_job_that_another_transaction_holds_is_looked_for_again_in_a_moment(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    [receipt] = storage.enqueue([make_job()])
    with database.transaction():
        database.execute("UPDATE taskito.jobs_live SET awaited = true WHERE id = %s", (receipt.id,))
        answer = storage.exchange(worker_id, [], want(5))

    assert answer.claims == []
    assert answer.next_due is not None
    assert 0 < answer.next_due - answer.now <= 1000
    assert [each.id for each in claim(storage, worker_id)] == [receipt.id]
