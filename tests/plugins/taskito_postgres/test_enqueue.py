"""Storing jobs: by many at once, once more, and jobs that no row holds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import JobStatus, NewJob, StorageError, new_id
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, retry

from .conftest import OpenStorage
from .locks import someone_is_blocked


def test_durations_that_no_clock_reaches_are_refused_before_they_poison_a_batch(
    storage: PostgresStorage, worker_id: str
) -> None:
    for values in ({"result_ttl": float("inf")}, {"delay": float("nan")}, {"timeout": -1.0}):
        with pytest.raises(StorageError, match="seconds"):
            storage.enqueue([NewJob(id=new_id(), task_name="job", payload=b"", **values)])  # type: ignore[arg-type]

    claimed = enqueue_and_claim(storage, worker_id, result_ttl=1e12)
    assert storage.exchange(worker_id, [retry(claimed, delay=1e300)], None).recorded == {claimed.id}


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
