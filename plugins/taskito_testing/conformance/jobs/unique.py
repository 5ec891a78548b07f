"""Unique keys: one live job at a time holds one, however many producers ask at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from taskito_core.job import NewJob, Receipt
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import (
    cancelled,
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    release,
    retry,
    want,
)


class Unique(ConformanceBase):
    def test_a_key_that_is_held_gives_its_holder(self, storage: Storage, worker: str) -> None:
        first, second = make_job(unique_key="k"), make_job(unique_key="k")
        storage.enqueue([first])

        assert storage.enqueue([second]) == [Receipt(first.id, False)]

        assert storage.get([second.id]) == []
        assert [c.id for c in claim(storage, worker, 9)] == [first.id]

    def test_the_job_tells_its_key(self, storage: Storage) -> None:
        job = make_job(unique_key="schlüssel: 1")
        storage.enqueue([job])

        assert storage.get([job.id])[0].unique_key == "schlüssel: 1"

    def test_a_job_that_its_parents_cancel_at_once_holds_its_key_for_nobody(
        self, storage: Storage, worker: str
    ) -> None:
        parent = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [dead(parent)], None)
        child = make_job(parents=(parent.id,))
        doomed = [make_job(unique_key=key, parents=(child.id,)) for key in ("k", "l")]
        again = make_job(unique_key="k", parents=(doomed[1].id,))
        free = [make_job(unique_key=key) for key in ("k", "l")]

        receipts = storage.enqueue([child, *doomed, again, *free])

        assert all(receipt.inserted for receipt in receipts)
        assert sorted(c.id for c in claim(storage, worker, 9)) == sorted(job.id for job in free)

    def test_a_child_that_waits_for_the_holder_of_its_parents_key_keeps_its_own(
        self, storage: Storage, worker: str
    ) -> None:
        holder = enqueue_and_claim(storage, worker, unique_key="k")
        refused = make_job(unique_key="k")
        child, twin = (make_job(unique_key="l", parents=(refused.id,)) for _ in range(2))

        receipts = storage.enqueue([refused, child, twin])

        assert receipts == [Receipt(holder.id, False), Receipt(child.id, True), Receipt(child.id, False)]
        answer = storage.exchange(worker, [complete(holder)], want(9))
        assert [c.id for c in answer.claims] == [child.id]

    @pytest.mark.parametrize("outcome", [release, retry], ids=["released", "retried"])
    def test_a_key_is_held_while_its_job_lives(self, storage: Storage, worker: str, outcome: Any) -> None:
        claimed = enqueue_and_claim(storage, worker, unique_key="k")
        assert storage.enqueue([make_job(unique_key="k")]) == [Receipt(claimed.id, False)]

        storage.exchange(worker, [outcome(claimed)], None)

        assert storage.enqueue([make_job(unique_key="k")]) == [Receipt(claimed.id, False)]

    @pytest.mark.parametrize("outcome", [complete, dead, cancelled])
    def test_a_key_is_free_once_its_job_has_finished(
        self, storage: Storage, worker: str, outcome: Any
    ) -> None:
        claimed = enqueue_and_claim(storage, worker, unique_key="k")
        storage.exchange(worker, [outcome(claimed)], None)
        again = make_job(unique_key="k")

        assert storage.enqueue([again]) == [Receipt(again.id, True)]

    def test_a_job_cancelled_while_pending_gives_its_key_up(self, storage: Storage) -> None:
        first, second = make_job(unique_key="k"), make_job(unique_key="k")
        storage.enqueue([first])
        storage.cancel([first.id], "no")

        assert storage.enqueue([second]) == [Receipt(second.id, True)]

    def test_in_one_batch_the_first_holds_the_key(self, storage: Storage) -> None:
        named = {"a1": "a", "b1": "b", "a2": "a", "c1": None, "a3": "a", "b2": "b"}
        jobs = [make_job(id=name, unique_key=key) for name, key in named.items()]

        receipts = storage.enqueue(jobs)

        assert receipts == [
            Receipt("a1", True),
            Receipt("b1", True),
            Receipt("a1", False),
            Receipt("c1", True),
            Receipt("a1", False),
            Receipt("b1", False),
        ]

    def test_held_and_free_keys_may_be_in_one_large_batch(self, storage: Storage) -> None:
        held = [make_job(unique_key=f"k{n}") for n in range(0, 1_000, 2)]
        storage.enqueue(held)

        receipts = storage.enqueue([make_job(unique_key=f"k{n}") for n in range(1_000)])

        assert [receipt.inserted for receipt in receipts] == [n % 2 == 1 for n in range(1_000)]
        assert [receipt.id for receipt in receipts[::2]] == [job.id for job in held]

    def test_a_batch_sent_again_has_its_own_ids(self, storage: Storage) -> None:
        jobs = [make_job(unique_key="k"), make_job()]
        storage.enqueue(jobs)

        assert storage.enqueue(jobs) == [Receipt(job.id, False) for job in jobs]

    def test_a_finished_id_sent_again_does_not_take_its_key_back(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, unique_key="k")
        storage.exchange(worker, [complete(claimed)], None)

        assert storage.enqueue([make_job(id=claimed.id, unique_key="k")]) == [Receipt(claimed.id, False)]

        assert storage.enqueue([make_job(unique_key="k")])[0].inserted

    def test_two_bulks_with_crossed_keys_both_succeed(self, storage: Storage, connect: Connect) -> None:
        keys = [f"key-{n}" for n in range(40)]
        one, two = connect(), connect()
        for attempt in range(5):
            start = threading.Barrier(2)
            batches = [
                [make_job(unique_key=f"{attempt}-{key}") for key in keys],
                [make_job(unique_key=f"{attempt}-{key}") for key in reversed(keys)],
            ]

            with ThreadPoolExecutor(2) as pool:
                sent = [
                    pool.submit(_enqueue_at, start, where, batch)
                    for where, batch in zip((one, two), batches, strict=True)
                ]
                first, second = (sending.result() for sending in sent)

            standing = [receipt.id for receipt in first]
            assert standing == [receipt.id for receipt in reversed(second)]
            assert all(a.inserted != b.inserted for a, b in zip(first, reversed(second), strict=True))

    def test_processes_that_hammer_one_key_make_one_job(self, storage: Storage, processes: Actors) -> None:
        producers = [
            processes.start(
                "enqueue_batches",
                batches=[[{"id": f"{who}-{n}", "unique_key": "k"}] for n in range(40)],
            )
            for who in range(8)
        ]
        for producer in producers:
            producer.go()
        receipts = [Receipt(*receipt) for producer in producers for receipt in producer.hear()]

        [job] = storage.list_jobs(JobFilter(), 9, None).jobs
        assert {receipt.id for receipt in receipts} == {job.id}
        assert sum(receipt.inserted for receipt in receipts) == 1

    def test_a_key_that_is_given_up_all_the_time_never_has_two_holders(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        # The holder may end between the conflict and the query for it.
        producers = [connect(), connect()]
        start = threading.Barrier(3)

        def produce(producer: Storage) -> list[Receipt]:
            start.wait()
            return [producer.enqueue([make_job(unique_key="k")])[0] for _ in range(60)]

        with ThreadPoolExecutor(2) as pool:
            producing = [pool.submit(produce, producer) for producer in producers]
            start.wait()
            ran: list[str] = []
            while not all(future.done() for future in producing) or _run_what_is_there(storage, worker, ran):
                _run_what_is_there(storage, worker, ran)
            receipts = [receipt for future in producing for receipt in future.result()]

        inserted = [receipt.id for receipt in receipts if receipt.inserted]
        assert sorted(ran) == sorted(inserted)
        assert {receipt.id for receipt in receipts} == set(inserted)


def _run_what_is_there(storage: Storage, worker: str, ran: list[str]) -> bool:
    """Run what can be run now; never two jobs at once, as both would hold the key."""
    claims = claim(storage, worker, 9)
    assert len(claims) <= 1
    storage.exchange(worker, [complete(c) for c in claims], None)
    ran += [c.id for c in claims]
    return bool(claims)


def _enqueue_at(start: threading.Barrier, storage: Storage, jobs: list[NewJob]) -> list[Receipt]:
    start.wait()
    return storage.enqueue(jobs)
