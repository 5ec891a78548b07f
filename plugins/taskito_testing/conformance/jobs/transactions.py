"""Enqueueing and completing inside a transaction of the application's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskito_core.errors import ConfigError, JobNotFoundError
from taskito_core.job import Claim, JobStatus, Receipt
from taskito_core.storage import Capability, Storage
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    claim,
    complete,
    enqueue_and_claim,
    make_job,
    status_of,
    want,
)

Raw = Callable[[], Any]


class Transactions(ConformanceBase):
    def test_a_storage_without_the_power_refuses_connections(self, storage: Storage) -> None:
        if Capability.EXTERNAL_TRANSACTIONS in storage.capabilities:
            pytest.skip("this storage claims EXTERNAL_TRANSACTIONS")
        job = make_job()

        with pytest.raises(ConfigError):
            storage.enqueue([job], connection=object())
        with pytest.raises(ConfigError):
            storage.complete_in(object(), complete(_a_claim(job.id)))

        assert storage.get([job.id]) == []

    def test_a_job_is_there_once_the_callers_transaction_is_committed(
        self, storage: Storage, worker: str, raw_connect: Raw
    ) -> None:
        connection = raw_connect()
        job = make_job()

        assert storage.enqueue([job], connection=connection) == [Receipt(job.id, True)]
        assert storage.get([job.id]) == []
        connection.commit()

        assert [c.id for c in claim(storage, worker)] == [job.id]

    def test_a_job_vanishes_with_the_callers_rollback(
        self, storage: Storage, worker: str, raw_connect: Raw
    ) -> None:
        connection = raw_connect()
        job = make_job(unique_key="k", concurrency_key="key", concurrency=1)
        storage.enqueue([job], connection=connection)
        connection.rollback()

        assert storage.get([job.id]) == []
        assert storage.enqueue([job]) == [Receipt(job.id, True)]
        assert [c.id for c in claim(storage, worker)] == [job.id]

    def test_a_savepoint_of_the_caller_is_respected(self, storage: Storage, raw_connect: Raw) -> None:
        connection = raw_connect()
        kept, undone = make_job(), make_job()
        storage.enqueue([kept], connection=connection)
        connection.execute("SAVEPOINT here")
        storage.enqueue([undone], connection=connection)
        connection.execute("ROLLBACK TO SAVEPOINT here")
        connection.commit()

        assert [job.id for job in storage.get([kept.id, undone.id])] == [kept.id]

    def test_an_id_that_is_stored_is_not_stored_again(self, storage: Storage, raw_connect: Raw) -> None:
        connection = raw_connect()
        first = make_job(unique_key="k")
        storage.enqueue([first])

        receipts = storage.enqueue([make_job(id=first.id), make_job(unique_key="k")], connection=connection)
        connection.commit()

        assert receipts == [Receipt(first.id, False), Receipt(first.id, False)]

    def test_an_unknown_parent_leaves_the_transaction_usable(
        self, storage: Storage, raw_connect: Raw
    ) -> None:
        connection = raw_connect()
        kept, orphan = make_job(), make_job(parents=("unknown",))
        storage.enqueue([kept], connection=connection)

        with pytest.raises(JobNotFoundError):
            storage.enqueue([orphan], connection=connection)
        connection.commit()

        assert [job.id for job in storage.get([kept.id, orphan.id])] == [kept.id]

    def test_a_child_whose_parent_ended_meanwhile_is_released_by_the_sweep_at_the_latest(
        self, storage: Storage, worker: str, raw_connect: Raw
    ) -> None:
        parent = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(parent)], None)
        connection = raw_connect()
        child = make_job(parents=(parent.id,))
        storage.enqueue([child], connection=connection)
        connection.commit()

        storage.sweep(100)

        assert [c.id for c in claim(storage, worker)] == [child.id]

    def test_a_completion_counts_with_the_callers_commit(
        self, storage: Storage, worker: str, raw_connect: Raw
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        connection = raw_connect()

        assert storage.complete_in(connection, complete(claimed, b"inside")) is True
        assert status_of(storage, claimed.id) is JobStatus.RUNNING
        connection.commit()

        [job] = storage.get([claimed.id])
        assert (job.status, job.result) == (JobStatus.COMPLETE, b"inside")

    def test_a_completion_vanishes_with_the_callers_rollback(
        self, storage: Storage, worker: str, raw_connect: Raw
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        connection = raw_connect()
        storage.complete_in(connection, complete(claimed, b"inside"))
        connection.rollback()

        assert status_of(storage, claimed.id) is JobStatus.RUNNING
        assert storage.exchange(worker, [complete(claimed, b"outside")], None).recorded == {claimed.id}
        assert storage.get([claimed.id])[0].result == b"outside"

    def test_a_completion_under_a_lost_claim_is_told(
        self, storage: Storage, worker: str, other: str, raw_connect: Raw
    ) -> None:
        stale = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})
        [fresh] = claim(storage, other)
        connection = raw_connect()

        assert storage.complete_in(connection, complete(stale)) is False
        connection.rollback()

        assert storage.exchange(other, [complete(fresh)], None).recorded == {fresh.id}

    def test_the_later_settle_is_named_and_releases_what_waited(
        self, storage: Storage, worker: str, raw_connect: Raw
    ) -> None:
        claimed = enqueue_and_claim(storage, worker, concurrency_key="key", concurrency=1)
        child = make_job(parents=(claimed.id,))
        next_of_key = make_job(concurrency_key="key", concurrency=1)
        storage.enqueue([child, next_of_key])
        connection = raw_connect()
        storage.complete_in(connection, complete(claimed))
        connection.commit()

        answer = storage.exchange(worker, [complete(claimed)], want(9))

        assert answer.recorded == {claimed.id}
        assert sorted(c.id for c in answer.claims) == sorted([child.id, next_of_key.id])
        assert storage.await_finished(claimed.id, 0.0)


def _a_claim(job_id: str) -> Claim:
    return Claim(job_id, 1, "job", "default", b"", 0, 0, 0, None, None, None, 0, 0)
