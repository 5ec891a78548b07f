"""Producing: all or none, never twice, and no producer is in another's way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from taskito_core.errors import StorageError
from taskito_core.job import JobStatus, NewJob, Receipt
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    release,
)


class Atomicity(ConformanceBase):
    def test_receipts_come_in_the_order_of_the_jobs(self, storage: Storage) -> None:
        jobs = [make_job(id=name) for name in ("c", "a", "d", "b")]

        assert storage.enqueue(jobs) == [Receipt(job.id, True) for job in jobs]

    def test_enqueueing_nothing_is_no_error(self, storage: Storage) -> None:
        assert storage.enqueue([]) == []

    @pytest.mark.parametrize(
        "unstorable",
        [{"task_name": "half a \ud800 letter"}, {"metadata": '"\udfff"'}, {"priority": 2**70}],
        ids=["not unicode", "metadata not unicode", "beyond 64 bits"],
    )
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_if_one_job_cannot_be_stored_none_is(
        self, storage: Storage, unstorable: dict[str, Any], position: int
    ) -> None:
        jobs = [make_job(), make_job()]
        jobs.insert(position, make_job(**unstorable))

        with pytest.raises(StorageError):
            storage.enqueue(jobs)

        assert storage.get([job.id for job in jobs]) == []
        assert storage.enqueue([make_job()])[0].inserted

    def test_an_id_that_is_waiting_is_not_stored_again(self, storage: Storage) -> None:
        first = make_job(payload=b"first")
        storage.enqueue([first])
        before = storage.get([first.id])

        receipts = storage.enqueue([make_job(id=first.id, payload=b"second", priority=9)])

        assert receipts == [Receipt(first.id, False)]
        assert storage.get([first.id]) == before

    def test_an_id_that_is_running_is_not_stored_again(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)

        assert storage.enqueue([make_job(id=claimed.id)]) == [Receipt(claimed.id, False)]

        assert storage.get([claimed.id])[0].status is JobStatus.RUNNING
        assert claim(storage, worker) == []

    @pytest.mark.parametrize("outcome", [complete, dead])
    def test_an_id_that_has_finished_is_not_stored_again(
        self, storage: Storage, worker: str, outcome: Any
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [outcome(claimed)], None)
        before = storage.get([claimed.id])

        assert storage.enqueue([make_job(id=claimed.id)]) == [Receipt(claimed.id, False)]

        assert storage.get([claimed.id]) == before
        assert claim(storage, worker) == []

    def test_an_id_twice_in_one_batch_is_stored_once(self, storage: Storage, worker: str) -> None:
        job = make_job(payload=b"first")

        receipts = storage.enqueue([job, make_job(), make_job(id=job.id, payload=b"second")])

        assert [receipt.inserted for receipt in receipts] == [True, True, False]
        assert storage.get([job.id])[0].payload == b"first"
        assert len(claim(storage, worker, 9)) == 2

    def test_a_batch_may_be_sent_again_with_more(self, storage: Storage, worker: str) -> None:
        jobs = [make_job() for _ in range(4)]
        storage.enqueue(jobs)
        [first, second] = claim(storage, worker, 2)
        storage.exchange(worker, [complete(first), release(second)], None)
        more = make_job()

        receipts = storage.enqueue([*jobs, more])

        assert [receipt.inserted for receipt in receipts] == [False] * 4 + [True]
        assert len(storage.list_jobs(JobFilter(), 99, None).jobs) == 5

    def test_a_large_batch_may_be_sent_again(self, storage: Storage) -> None:
        jobs = [make_job() for _ in range(3_000)]
        storage.enqueue(jobs[:1_500])

        receipts = storage.enqueue(jobs)

        assert [receipt.inserted for receipt in receipts] == [False] * 1_500 + [True] * 1_500
        assert storage.counts().by_queue["default"].pending == 3_000

    def test_a_job_that_finishes_while_its_batch_is_sent_again_stays_one(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        producer = connect()
        for _ in range(20):
            claimed = enqueue_and_claim(storage, worker)
            start = threading.Barrier(2)

            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(_enqueue_at, start, producer, [make_job(id=claimed.id)])
                start.wait()
                storage.exchange(worker, [complete(claimed)], None)
                assert sending.result() == [Receipt(claimed.id, False)]

            assert [job.status for job in storage.get([claimed.id])] == [JobStatus.COMPLETE]
            assert claim(storage, worker) == []

    def test_producers_at_once_never_see_each_other_as_errors(
        self, storage: Storage, connect: Connect
    ) -> None:
        batches = [[make_job() for _ in range(5)] for _ in range(80)]
        start = threading.Barrier(4)

        def produce(mine: list[list[NewJob]]) -> int:
            storage = connect()
            start.wait()
            return sum(receipt.inserted for batch in mine for receipt in storage.enqueue(batch))

        with ThreadPoolExecutor(4) as pool:
            inserted = sum(pool.map(produce, [batches[number::4] for number in range(4)]))

        assert inserted == 400
        assert storage.counts().by_queue["default"].pending == 400

    def test_the_same_batch_from_everyone_at_once_is_stored_once(
        self, storage: Storage, connect: Connect
    ) -> None:
        # Each sends it in another order: a store that locks as it goes would deadlock.
        jobs = [make_job() for _ in range(100)]
        orders = [jobs, jobs[::-1], jobs[50:] + jobs[:50], jobs[1::2] + jobs[::2]]
        storages = [connect() for _ in orders]
        start = threading.Barrier(len(orders))

        with ThreadPoolExecutor(len(orders)) as pool:
            sent = [pool.submit(_enqueue_at, start, *pair) for pair in zip(storages, orders, strict=True)]
            inserted = [receipt.id for answer in sent for receipt in answer.result() if receipt.inserted]

        assert sorted(inserted) == sorted(job.id for job in jobs)

    def test_producing_processes_never_see_each_other_as_errors(
        self, storage: Storage, processes: Actors
    ) -> None:
        ids = [[f"{number}-{index:03}" for index in range(150)] for number in range(3)]
        actors = [processes.start("enqueue", ids=ids[number], batch=5) for number in range(3)]

        for actor in actors:
            actor.go()

        assert [actor.hear() for actor in actors] == ids
        assert storage.counts().by_queue["default"].pending == 450


def _enqueue_at(start: threading.Barrier, storage: Storage, jobs: list[NewJob]) -> list[Receipt]:
    start.wait()
    return storage.enqueue(jobs)
