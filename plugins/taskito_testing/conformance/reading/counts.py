"""How many jobs are where."""

from __future__ import annotations

import pytest

from taskito_core.storage import Storage
from taskito_core.storage_client import COUNT_CAP, Counts
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import claim, complete, dead, make_job, release, retry


class Counting(ConformanceBase):
    @pytest.mark.parametrize("exact", [False, True])
    def test_an_empty_store_has_nothing_to_count(self, storage: Storage, exact: bool) -> None:
        report = storage.counts(exact)

        assert sum(_total(counts) for counts in report.by_queue.values()) == 0
        assert report.capped is False

    @pytest.mark.parametrize("exact", [False, True])
    def test_each_state_is_counted_in_its_queue(self, storage: Storage, worker: str, exact: bool) -> None:
        storage.enqueue([make_job(queue="mail") for _ in range(7)])
        storage.enqueue([make_job(queue="news") for _ in range(2)])
        claims = claim(storage, worker, 6, queues=("mail",))
        storage.exchange(
            worker,
            [complete(claims[0]), complete(claims[1]), dead(claims[2]), retry(claims[3], 60.0)],
            None,
        )

        report = storage.counts(exact)

        assert dict(report.by_queue) == {
            "mail": Counts(pending=2, running=2, complete=2, failed=1, dead=1),
            "news": Counts(pending=2),
        }
        assert report.capped is False

    def test_failed_counts_those_that_wait_for_a_retry_now(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(3)])
        a, b, c = claim(storage, worker, 3)
        storage.exchange(worker, [retry(a), retry(b), release(c)], None)

        assert storage.counts().by_queue["default"] == Counts(pending=3, failed=2)

        [again] = claim(storage, worker)
        assert storage.counts().by_queue["default"].running == 1
        storage.exchange(worker, [complete(again)], None)
        assert storage.counts().by_queue["default"].complete == 1

    def test_counting_finished_jobs_stops_at_the_cap_unless_exact(
        self, storage: Storage, worker: str
    ) -> None:
        for start in range(0, COUNT_CAP + 1, 5_000):
            size = min(5_000, COUNT_CAP + 1 - start)
            storage.enqueue([make_job(payload=b"") for _ in range(size)])
            storage.exchange(worker, [complete(c, b"") for c in claim(storage, worker, size)], None)
        storage.enqueue([make_job()])

        rough, exact = storage.counts(), storage.counts(exact=True)

        assert rough.by_queue["default"] == Counts(pending=1, complete=COUNT_CAP)
        assert rough.capped is True
        assert exact.by_queue["default"] == Counts(pending=1, complete=COUNT_CAP + 1)
        assert exact.capped is False


def _total(counts: Counts) -> int:
    return counts.pending + counts.running + counts.complete + counts.dead + counts.cancelled
