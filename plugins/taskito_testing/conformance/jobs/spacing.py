"""Calls that belong together by a key: at most one job in a window, or one job after the last of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from taskito_core.errors import JobNotFoundError
from taskito_core.job import Job, JobStatus, NewJob, Receipt
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase, Connect
from taskito_testing.factories import claim, complete, make_job, retry

#: Producers that call at the same time, and calls of each.
PRODUCERS, CALLS = 4, 12


def throttled(key: str = "k", window: float = 60.0, **fields: Any) -> NewJob:
    return make_job(call_key=key, window=window, **fields)


def debounced(key: str = "k", delay: float = 60.0, **fields: Any) -> NewJob:
    return make_job(call_key=key, delay=delay, **fields)


def _all(storage: Storage) -> list[Job]:
    return storage.list_jobs(JobFilter(), 100, None).jobs


def _call_at_once(connect: Connect, make: Callable[[], NewJob]) -> list[Receipt]:
    """The receipts of calls that come from several connections at the same time."""
    connections = [connect() for _ in range(PRODUCERS)]

    def call(storage: Storage) -> list[Receipt]:
        return [storage.enqueue([make()])[0] for _ in range(CALLS)]

    with ThreadPoolExecutor(PRODUCERS) as pool:
        return [receipt for receipts in pool.map(call, connections) for receipt in receipts]


class Spacing(ConformanceBase):
    # ---- a window ----

    def test_calls_within_the_window_give_the_first_job_and_the_next_one_after_it_is_stored(
        self, storage: Storage, worker: str
    ) -> None:
        first, second, third, other = throttled(), throttled(), throttled(), throttled("another")
        assert storage.enqueue([first]) == [Receipt(first.id, True)]
        storage.exchange(worker, [complete(claim(storage, worker)[0])], None)

        storage.clock_shift = 59_000
        assert storage.enqueue([second, other]) == [Receipt(first.id, False), Receipt(other.id, True)]
        storage.clock_shift = 61_000
        assert storage.enqueue([third]) == [Receipt(third.id, True)]
        assert {job.id for job in _all(storage)} == {first.id, other.id, third.id}

    def test_of_many_calls_at_once_one_is_stored(self, storage: Storage, connect: Connect) -> None:
        receipts = _call_at_once(connect, throttled)

        assert [receipt.inserted for receipt in receipts].count(True) == 1
        assert {receipt.id for receipt in receipts} == {job.id for job in _all(storage)}

    def test_a_window_is_not_forgotten_before_it_is_over(self, storage: Storage, worker: str) -> None:
        first = throttled(result_ttl=0.0)
        storage.enqueue([first])
        storage.exchange(worker, [complete(claim(storage, worker)[0])], None)
        storage.clock_shift = 30_000
        assert storage.prune(9).jobs == 1

        assert storage.enqueue([throttled()]) == [Receipt(first.id, False)]
        storage.clock_shift = 61_000
        storage.prune(9)
        assert storage.enqueue([late := throttled()]) == [Receipt(late.id, True)]

    def test_a_window_keeps_its_length_when_the_clock_is_set_back(
        self, storage: Storage, worker: str
    ) -> None:
        storage.clock_shift = 3_600_000
        storage.enqueue([first := throttled()])
        storage.heartbeat(worker, [])

        storage.clock_shift = 0
        storage.sweep(9)

        assert storage.enqueue([throttled()]) == [Receipt(first.id, False)]
        storage.clock_shift = 61_000
        assert storage.enqueue([late := throttled()]) == [Receipt(late.id, True)]

    # ---- after the last call ----

    def test_a_pending_job_is_put_off_by_each_call_and_becomes_what_the_last_one_says(
        self, storage: Storage, worker: str
    ) -> None:
        first = debounced(payload=b"1")
        storage.enqueue([first])
        for seconds, payload in ((30, b"2"), (80, b"3")):
            storage.clock_shift = seconds * 1000
            again = debounced(payload=payload, priority=seconds, tags=("late",), expires=600.0)
            assert storage.enqueue([again]) == [Receipt(first.id, False)]

        [job] = _all(storage)
        assert (job.id, job.payload, job.priority, job.tags) == (first.id, b"3", 80, ("late",))
        assert job.expires_at is not None
        assert job.expires_at - job.scheduled_at == 540_000
        storage.clock_shift = 135_000
        assert claim(storage, worker) == []
        storage.clock_shift = 141_000
        assert [(one.id, one.payload) for one in claim(storage, worker)] == [(first.id, b"3")]

    def test_once_it_was_claimed_a_call_stores_a_new_job(self, storage: Storage, worker: str) -> None:
        storage.enqueue([first := debounced()])
        storage.clock_shift = 61_000
        [claimed] = claim(storage, worker)

        assert storage.enqueue([second := debounced(payload=b"2")]) == [Receipt(second.id, True)]
        storage.exchange(worker, [retry(claimed, 5.0)], None)
        assert storage.enqueue([debounced(payload=b"3")]) == [Receipt(second.id, False)]
        assert {(job.id, job.payload) for job in _all(storage)} == {
            (first.id, first.payload),
            (second.id, b"3"),
        }

    def test_many_calls_at_once_make_one_job(self, storage: Storage, connect: Connect) -> None:
        receipts = _call_at_once(connect, debounced)

        assert [receipt.inserted for receipt in receipts].count(True) == 1
        assert {receipt.id for receipt in receipts} == {job.id for job in _all(storage)}

    def test_a_job_that_waits_for_a_worker_stands_for_calls_however_long(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([first := debounced()])
        storage.clock_shift = 600_000
        storage.prune(9)

        assert storage.enqueue([debounced()]) == [Receipt(first.id, False)]
        assert claim(storage, worker) == []
        storage.cancel([first.id], "not wanted")
        assert storage.enqueue([second := debounced()]) == [Receipt(second.id, True)]

    def test_a_job_that_is_put_off_gives_its_slot_to_another(self, storage: Storage, worker: str) -> None:
        slot: dict[str, Any] = {"concurrency_key": "c", "concurrency": 1}
        storage.enqueue([first := debounced(**slot)])
        storage.clock_shift = 61_000
        assert storage.sweep(9).opened == [first.id]
        storage.enqueue([waiting := make_job(**slot)])

        storage.enqueue([debounced(**slot)])

        assert [one.id for one in claim(storage, worker, 2)] == [waiting.id]
        [job] = storage.get([first.id])
        assert (job.status, job.gate) == (JobStatus.PENDING, "later")

    # ---- batches ----

    def test_calls_of_one_batch_are_spaced_as_if_they_came_one_by_one(self, storage: Storage) -> None:
        calls = [debounced(payload=b"1"), throttled("t", payload=b"1"), debounced(payload=b"2")]
        calls += [throttled("t", payload=b"2"), debounced(payload=b"3")]

        receipts = storage.enqueue(calls)

        first, window = calls[0].id, calls[1].id
        assert receipts == [
            Receipt(first, True),
            Receipt(window, True),
            Receipt(first, False),
            Receipt(window, False),
            Receipt(first, False),
        ]
        assert {(job.id, job.payload) for job in _all(storage)} == {(first, b"3"), (window, b"1")}

    @pytest.mark.parametrize("make", [debounced, throttled])
    def test_a_call_that_is_sent_again_changes_nothing(
        self, storage: Storage, make: Callable[[], NewJob]
    ) -> None:
        first, second = make(), make()
        for batch in ([first], [second]):
            storage.enqueue(batch)
            before = storage.get([first.id])
            storage.clock_shift += 20_000

            assert storage.enqueue(batch) == [Receipt(first.id, False)]
            assert storage.get([first.id]) == before
        assert len(_all(storage)) == 1

    def test_a_batch_that_fails_leaves_no_trace_of_its_calls(self, storage: Storage) -> None:
        storage.enqueue([first := debounced("old", payload=b"1")])
        before = storage.get([first.id])

        with pytest.raises(JobNotFoundError):
            storage.enqueue(
                [throttled(), debounced("old", payload=b"2"), make_job(parents=("there is none",))]
            )

        assert storage.get([first.id]) == before
        assert storage.enqueue([call := throttled()]) == [Receipt(call.id, True)]

    def test_a_child_waits_for_the_job_that_stands_for_its_parent(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([first := throttled()])
        second = throttled()
        child = make_job(parents=(second.id,))

        storage.enqueue([second, child])

        assert [(edge.job_id, edge.parent_id) for edge in storage.edges([child.id])] == [(child.id, first.id)]
        [claimed] = claim(storage, worker, 2)
        storage.exchange(worker, [complete(claimed)], None)
        assert [one.id for one in claim(storage, worker)] == [child.id]
