"""What no column holds, no clock reaches or no exchange carries: it fails alone, and does no harm."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from taskito_core import DeadReason, JobFilter, JobStatus, NewJob, StorageError, new_id
from taskito_postgres import settle
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, enqueue_and_claim, error_info, make_job, retry


def test_an_outcome_that_cannot_be_stored_becomes_a_failed_job_and_the_rest_is_recorded(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    storage.enqueue([make_job() for _ in range(7)])
    claims = claim(storage, worker_id, 7)
    # A result that the server refuses, whatever the reason is.
    database.execute(
        "ALTER TABLE taskito.jobs ADD CONSTRAINT picky CHECK (result IS NULL OR result <> 'poison')"
    )
    outcomes = [complete(each, b"poison" if n == 4 else b"fine") for n, each in enumerate(claims)]

    recorded = storage.exchange(worker_id, outcomes, None).recorded

    assert recorded == {each.id for each in claims}
    found = {job.id: job for job in storage.get([each.id for each in claims])}
    statuses = [found[each.id].status for each in claims]
    assert statuses == [JobStatus.COMPLETE] * 4 + [JobStatus.DEAD] + [JobStatus.COMPLETE] * 2
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


def test_durations_that_no_clock_reaches_are_refused_before_they_poison_a_batch(
    storage: PostgresStorage, worker_id: str
) -> None:
    for values in ({"result_ttl": float("inf")}, {"delay": float("nan")}, {"timeout": -1.0}):
        with pytest.raises(StorageError, match="seconds"):
            storage.enqueue([NewJob(id=new_id(), task_name="job", payload=b"", **values)])  # type: ignore[arg-type]

    claimed = enqueue_and_claim(storage, worker_id, result_ttl=1e12)
    assert storage.exchange(worker_id, [retry(claimed, delay=1e300)], None).recorded == {claimed.id}


def test_metadata_that_jsonb_refuses_can_be_filtered(storage: PostgresStorage) -> None:
    texts = [
        '{"a": "x\\u0000y", "b": 1}',
        '{"a": "\\ud83d\\ude00"}',
        '{"a": "\\ud83d"}',
        '{"a": "\\\\u0000"}',
        None,
    ]
    ids = [storage.enqueue([make_job(metadata=text)])[0].id for text in texts]

    def found(**metadata: Any) -> list[str]:
        return [job.id for job in storage.list_jobs(JobFilter(metadata=metadata), 10, None).jobs]

    assert found(a="x\0y") == [ids[0]]
    assert found(b=1) == [ids[0]]
    assert found(a="😀") == [ids[1]]
    assert found(a="\ud83d") == [ids[2]]
    assert found(a="\\u0000") == [ids[3]]
