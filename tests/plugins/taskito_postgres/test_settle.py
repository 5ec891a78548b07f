"""Outcomes: of rows that change at that moment, of jobs that were rescued, and outcomes that no row holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import Claim, DeadReason, ErrorKind, JobStatus, Outcome, StorageError, messages
from taskito_postgres import settle
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    error_info,
    make_job,
    release,
    retry,
    want,
)

from .locks import blocked, someone_is_blocked

#: How often two meet on the same row.
TRIES = 10


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
        # What result() does to the row.
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
    # What two producers do, one after the other, that each store a child of the job.
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


def test_a_batch_with_an_outcome_that_cannot_be_stored_is_refused_whole_and_its_parts_are_not(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    storage.enqueue([make_job() for _ in range(7)])
    claims = claim(storage, worker_id, 7)
    # A result that the server refuses, whatever the reason is.
    database.execute(
        "ALTER TABLE taskito.jobs ADD CONSTRAINT picky CHECK (result IS NULL OR result <> 'poison')"
    )
    outcomes: list[Outcome] = [
        complete(each, b"poison" if n == 4 else b"fine") for n, each in enumerate(claims)
    ]

    with pytest.raises(StorageError) as refused:
        storage.exchange(worker_id, outcomes, want(1))
    assert {job.status for job in storage.get([each.id for each in claims])} == {JobStatus.RUNNING}

    # What the worker makes of it: see the tests of its outbox.
    outcomes[4] = messages.rejected(claims[4].id, claims[4].token, refused.value)
    recorded = storage.exchange(worker_id, outcomes, None).recorded

    assert recorded == {each.id for each in claims}
    [letter] = storage.dead_letters(10, None).letters
    assert (letter.job_id, letter.reason) == (claims[4].id, DeadReason.REJECTED)


def test_texts_that_no_column_holds_do_no_harm(storage: PostgresStorage, worker_id: str) -> None:
    claimed = enqueue_and_claim(storage, worker_id)
    awful = error_info(type="E\0", message="nul \0 and half \ud800", traceback="\0\udfff")

    assert storage.exchange(worker_id, [retry(claimed, error=awful)], None).recorded == {claimed.id}
    assert storage.exchange(worker_id, [retry(claimed, error=awful)], None).recorded == {claimed.id}

    [error] = storage.errors(claimed.id)
    assert (error.type, error.message) == ("E\\x00", "nul \\x00 and half \\ud800")
    assert storage.get(["\0", "\ud800"]) == []
    assert storage.errors("\0") == []
    assert storage.await_finished("\0", 1.0) is True
    with pytest.raises(StorageError):
        storage.enqueue([make_job(task_name="\0")])
    with pytest.raises(StorageError):
        storage.enqueue([make_job(queue="\ud800")])


def test_results_of_many_megabytes_are_settled_in_one_exchange(
    storage: PostgresStorage, worker_id: str
) -> None:
    assert [len(batch) for batch in settle._by_weight([])] == []
    storage.enqueue([make_job() for _ in range(6)])
    claims = claim(storage, worker_id, 6)
    big = b"x" * (settle.MAX_BYTES // 4)

    recorded = storage.exchange(worker_id, [complete(each, big) for each in claims], None).recorded

    assert recorded == {each.id for each in claims}
