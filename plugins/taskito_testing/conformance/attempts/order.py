"""Who is claimed before whom."""

from __future__ import annotations

import random
from dataclasses import replace

from taskito_core.job import Claim
from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase, wait_until
from taskito_testing.factories import claim, make_job, release, want

_LONG_AGO = 1_600_000_000_000


class Order(ConformanceBase):
    def test_higher_priority_comes_first(self, storage: Storage, worker: str) -> None:
        # Ids in the opposite order: none gets this right by accident.
        low, middle, high = (make_job(id=name, priority=p) for name, p in (("a", -5), ("b", 0), ("c", 9)))
        storage.enqueue([low, high, middle])

        assert [c.id for c in claim(storage, worker, 3)] == [high.id, middle.id, low.id]

    def test_among_equals_the_one_due_earlier_comes_first(self, storage: Storage, worker: str) -> None:
        second = make_job(scheduled_at=_LONG_AGO + 1)
        first = make_job(scheduled_at=_LONG_AGO)
        storage.enqueue([second])
        storage.enqueue([first])

        assert [c.id for c in claim(storage, worker, 2)] == [first.id, second.id]

    def test_among_those_due_at_the_same_moment_the_lower_id_comes_first(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job(id=name, scheduled_at=_LONG_AGO) for name in ("b", "c", "a")])

        assert [c.id for c in claim(storage, worker, 3)] == ["a", "b", "c"]

    def test_priority_counts_more_than_the_due_time(self, storage: Storage, worker: str) -> None:
        early = make_job(scheduled_at=_LONG_AGO, priority=1)
        urgent = make_job(priority=2)
        storage.enqueue([early, urgent])

        assert [c.id for c in claim(storage, worker, 2)] == [urgent.id, early.id]

    def test_due_jobs_below_very_many_priorities_that_are_not_due_come_in_order(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job(priority=priority, delay=3600.0) for priority in range(100, 500)])
        best, second, third, last = (
            make_job(priority=priority, scheduled_at=_LONG_AGO) for priority in (9, 8, 7, 7)
        )
        last = replace(last, scheduled_at=_LONG_AGO + 1)
        storage.enqueue([last, second, best, third])
        claimed = _claim_soon(storage, worker, 2)
        lane = claimed[1].task_name
        storage.exchange(worker, [release(claimed[0]), release(claimed[1], lane=lane)], None)

        assert [c.id for c in claimed] == [best.id, second.id]
        assert [c.id for c in _claim_soon(storage, worker, 3)] == [best.id, second.id, third.id]
        assert [c.id for c in _claim_soon(storage, worker, 1)] == [last.id]

    def test_a_queue_served_first_comes_before_any_priority(self, storage: Storage, worker: str) -> None:
        modest = make_job(queue="first")
        urgent = make_job(queue="second", priority=100)
        storage.enqueue([urgent, modest])

        assert [c.id for c in claim(storage, worker, 2, queues=("first", "second"))] == [modest.id, urgent.id]

    def test_the_order_of_the_queues_is_the_callers(self, storage: Storage, worker: str) -> None:
        for name in ("a", "b", "c"):
            storage.enqueue([make_job(queue=name)])

        assert [c.queue for c in claim(storage, worker, 3, queues=("c", "a", "b"))] == ["c", "a", "b"]

    def test_only_wanted_queues_are_served(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(queue="mail"), make_job(queue="mai"), make_job(queue="MAIL")])

        assert [c.queue for c in claim(storage, worker, 9, queues=("mail",))] == ["mail"]

    def test_no_wanted_queue_means_no_claim(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job()])

        assert claim(storage, worker, 9, queues=()) == []

    def test_no_more_than_the_limit_is_claimed(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(queue=name) for name in ("a", "b") for _ in range(5)])

        assert len(claim(storage, worker, 7, queues=("a", "b"))) == 7
        assert len(claim(storage, worker, 7, queues=("a", "b"))) == 3

    def test_a_limit_of_nothing_claims_nothing(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job()])

        assert claim(storage, worker, 0) == []

    def test_a_job_of_the_future_is_invisible_until_its_moment(self, storage: Storage, worker: str) -> None:
        due = storage.now() + 60_000
        job = make_job(scheduled_at=due)
        storage.enqueue([job])

        early = storage.exchange(worker, [], want(1))
        storage.clock_shift = 60_000
        [claimed] = claim(storage, worker)

        assert early.claims == []
        assert early.next_due == due
        assert claimed.id == job.id

    def test_urgent_jobs_of_the_future_do_not_hide_those_due_now(self, storage: Storage, worker: str) -> None:
        due = make_job(priority=-1)
        later = storage.now() + 3_600_000
        storage.enqueue([make_job(priority=n, scheduled_at=later) for n in range(50)] + [due])

        assert [c.id for c in claim(storage, worker, 10)] == [due.id]

    def test_a_released_job_takes_its_old_place(self, storage: Storage, worker: str) -> None:
        first, second = make_job(scheduled_at=_LONG_AGO), make_job(scheduled_at=_LONG_AGO + 1)
        storage.enqueue([first, second])
        [claimed] = claim(storage, worker)

        storage.exchange(worker, [release(claimed)], None)

        assert [c.id for c in claim(storage, worker, 2)] == [first.id, second.id]

    def test_many_jobs_come_in_order_batch_after_batch(self, storage: Storage, worker: str) -> None:
        rng = random.Random(7)
        jobs = [
            make_job(
                queue=rng.choice(["a", "b"]),
                priority=rng.choice([-1, 0, 0, 5]),
                scheduled_at=_LONG_AGO + rng.randrange(5),
            )
            for _ in range(200)
        ]
        storage.enqueue(jobs)

        claimed: list[str] = []
        while batch := claim(storage, worker, 7, queues=("b", "a")):
            claimed += [c.id for c in batch]

        jobs.sort(key=lambda job: (job.queue != "b", -job.priority, job.scheduled_at, job.id))
        assert claimed == [job.id for job in jobs]


def _claim_soon(storage: Storage, worker: str, limit: int) -> list[Claim]:
    """Claim until there are so many: a store may need several calls, and says when to make the next."""
    claims: list[Claim] = []

    def enough() -> bool:
        claims.extend(claim(storage, worker, limit - len(claims)))
        return len(claims) == limit

    wait_until(enough)
    return claims
