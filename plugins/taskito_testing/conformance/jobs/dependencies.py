"""Jobs that wait for others: never run early, never stuck, cancelled if a parent came to nothing."""

from __future__ import annotations

from typing import Any

import pytest

from taskito_core.job import JobStatus, NewJob
from taskito_core.storage import Storage
from taskito_core.storage_client import Edge, Gate, JobFilter
from taskito_testing.conformance.base import ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import (
    cancelled,
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    new_token_base,
    retry,
    status_of,
    want,
)

_BAD_ENDS = {"dead": dead, "cancelled": cancelled}


class Dependencies(ConformanceBase):
    def test_a_child_waits_until_its_parent_is_complete(self, storage: Storage, worker: str) -> None:
        parent, child = _pair()
        storage.enqueue([parent, child])
        [claimed] = claim(storage, worker, 9)
        assert claimed.id == parent.id
        assert storage.get([child.id])[0].gate == Gate.PARENTS

        answer = storage.exchange(worker, [complete(claimed)], want(9))

        assert [c.id for c in answer.claims] == [child.id]
        assert storage.get([child.id])[0].gate is None

    def test_who_only_settles_is_told_that_a_child_can_be_claimed(
        self, storage: Storage, worker: str
    ) -> None:
        parents = [make_job(), make_job()]
        storage.enqueue([*parents, make_job(parents=tuple(parent.id for parent in parents))])
        first, second = claim(storage, worker, 9)

        assert not storage.exchange(worker, [complete(first)], None).opened
        assert storage.exchange(worker, [complete(second)], None).opened

    def test_a_parent_in_an_earlier_batch_is_as_good(self, storage: Storage, worker: str) -> None:
        parent, child = _pair()
        storage.enqueue([parent])
        storage.enqueue([child])

        assert [c.id for c in claim(storage, worker, 9)] == [parent.id]

    def test_a_child_of_a_job_that_is_complete_already_waits_for_nothing(
        self, storage: Storage, worker: str
    ) -> None:
        parent = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(parent)], None)
        child = make_job(parents=(parent.id,))
        storage.enqueue([child])

        assert [c.id for c in claim(storage, worker)] == [child.id]

    def test_a_child_of_a_retried_parent_goes_on_waiting(self, storage: Storage, worker: str) -> None:
        parent, child = _pair()
        storage.enqueue([parent, child])
        [first] = claim(storage, worker)

        answer = storage.exchange(worker, [retry(first)], want(9))

        assert [c.id for c in answer.claims] == [parent.id]

    @pytest.mark.parametrize("end", _BAD_ENDS.values(), ids=_BAD_ENDS)
    def test_a_child_is_cancelled_with_its_parent(self, storage: Storage, worker: str, end: Any) -> None:
        parent, child = _pair()
        storage.enqueue([parent, child])
        [claimed] = claim(storage, worker)

        storage.exchange(worker, [end(claimed)], None)

        [job] = storage.get([child.id])
        assert job.status is JobStatus.CANCELLED
        assert job.error == f"parent {parent.id} was {status_of(storage, parent.id)}"
        assert (job.gate, job.completed_at is None) == (None, False)
        assert storage.await_finished(child.id, 0.0)

    @pytest.mark.parametrize("end", _BAD_ENDS.values(), ids=_BAD_ENDS)
    def test_a_tolerant_child_runs_whatever_became_of_its_parent(
        self, storage: Storage, worker: str, end: Any
    ) -> None:
        parent, child = _pair(tolerant=True)
        storage.enqueue([parent, child])
        [claimed] = claim(storage, worker)

        answer = storage.exchange(worker, [end(claimed)], want(9))

        assert [c.id for c in answer.claims] == [child.id]

    @pytest.mark.parametrize("end", _BAD_ENDS.values(), ids=_BAD_ENDS)
    def test_a_child_that_comes_after_a_bad_end_is_cancelled_at_once(
        self, storage: Storage, worker: str, end: Any
    ) -> None:
        parent = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [end(parent)], None)
        strict = make_job(parents=(parent.id,))
        tolerant = make_job(parents=(parent.id,), tolerant=True)

        receipts = storage.enqueue([strict, tolerant])

        assert [receipt.inserted for receipt in receipts] == [True, True]
        assert storage.get([strict.id])[0].error == f"parent {parent.id} was {status_of(storage, parent.id)}"
        assert status_of(storage, strict.id) is JobStatus.CANCELLED
        assert [c.id for c in claim(storage, worker, 9)] == [tolerant.id]

    def test_a_child_of_a_job_cancelled_while_pending_is_cancelled(self, storage: Storage) -> None:
        parent, child = _pair()
        storage.enqueue([parent, child])

        assert storage.cancel([parent.id], "no") == [parent.id]

        assert storage.get([child.id])[0].error == f"parent {parent.id} was cancelled"
        assert storage.await_finished(child.id, 0.0)

    def test_a_child_of_a_job_cancelled_while_running_is_cancelled(
        self, storage: Storage, worker: str
    ) -> None:
        parent, child = _pair()
        storage.enqueue([parent, child])
        [claimed] = claim(storage, worker)
        storage.ask_to_cancel([parent.id], False)

        storage.exchange(worker, [retry(claimed)], None)

        assert storage.get([child.id])[0].error == f"parent {parent.id} was cancelled"

    def test_children_of_an_expired_job_go_the_way_of_any_other(self, storage: Storage, worker: str) -> None:
        parent, child = _pair(first={"expires": 1.0})
        tolerant = make_job(parents=(parent.id,), tolerant=True)
        storage.enqueue([parent, child, tolerant])
        storage.clock_shift = 2_000

        swept = storage.sweep(100)

        assert (swept.expired, swept.cancelled, swept.opened) == ([parent.id], [child.id], [tolerant.id])
        assert [c.id for c in claim(storage, worker, 9)] == [tolerant.id]

    def test_cancelling_goes_through_all_generations(self, storage: Storage, worker: str) -> None:
        jobs = [make_job()]
        for _ in range(50):
            jobs.append(make_job(parents=(jobs[-1].id,)))
        storage.enqueue(jobs)
        [claimed] = claim(storage, worker)

        storage.exchange(worker, [dead(claimed)], None)

        assert {status_of(storage, job.id) for job in jobs[1:]} == {JobStatus.CANCELLED}
        assert storage.get([jobs[-1].id])[0].error == f"parent {jobs[-2].id} was cancelled"

    def test_a_diamond_joins_once_both_sides_are_complete(self, storage: Storage, worker: str) -> None:
        top = make_job()
        left, right = make_job(parents=(top.id,)), make_job(parents=(top.id,))
        bottom = make_job(parents=(left.id, right.id))
        storage.enqueue([top, left, right, bottom])

        [first] = claim(storage, worker, 9)
        sides = storage.exchange(worker, [complete(first)], want(9)).claims
        half = storage.exchange(worker, [complete(sides[0])], want(9)).claims
        joined = storage.exchange(worker, [complete(sides[1])], want(9)).claims

        assert sorted(c.id for c in sides) == sorted([left.id, right.id])
        assert half == []
        assert [c.id for c in joined] == [bottom.id]

    def test_both_parents_may_complete_in_one_exchange(self, storage: Storage, worker: str) -> None:
        parents = [make_job(), make_job()]
        child = make_job(parents=tuple(parent.id for parent in parents))
        storage.enqueue([*parents, child])
        claims = claim(storage, worker, 2)

        answer = storage.exchange(worker, [complete(c) for c in claims], want(9))

        assert [c.id for c in answer.claims] == [child.id]

    def test_one_bad_parent_is_enough_whatever_the_others_do(self, storage: Storage, worker: str) -> None:
        parents = [make_job(), make_job()]
        child = make_job(parents=tuple(parent.id for parent in parents))
        storage.enqueue([*parents, child])
        [good, bad] = claim(storage, worker, 2)

        storage.exchange(worker, [complete(good), dead(bad)], None)

        assert storage.get([child.id])[0].error == f"parent {bad.id} was dead"

    def test_a_tolerant_child_waits_for_all_of_its_parents(self, storage: Storage, worker: str) -> None:
        parents = [make_job(), make_job()]
        child = make_job(parents=tuple(parent.id for parent in parents), tolerant=True)
        storage.enqueue([*parents, child])
        [first, second] = claim(storage, worker, 2)

        assert storage.exchange(worker, [dead(first)], want(9)).claims == []
        assert [c.id for c in storage.exchange(worker, [complete(second)], want(9)).claims] == [child.id]

    def test_a_thousand_parents(self, storage: Storage, worker: str) -> None:
        parents = [make_job() for _ in range(1_000)]
        child = make_job(parents=tuple(parent.id for parent in parents))
        storage.enqueue([*parents, child])
        claims = claim(storage, worker, 1_001)
        assert len(claims) == 1_000

        assert storage.exchange(worker, [complete(c) for c in claims[1:]], want(9)).claims == []
        last = storage.exchange(worker, [complete(claims[0])], want(9)).claims

        assert [c.id for c in last] == [child.id]
        assert len(storage.edges([child.id])) == 1_000

    def test_a_child_of_a_duplicate_waits_for_the_holder_of_the_key(
        self, storage: Storage, worker: str
    ) -> None:
        holder = enqueue_and_claim(storage, worker, unique_key="k")
        duplicate, child = _pair(first={"unique_key": "k"})

        receipts = storage.enqueue([duplicate, child])

        assert [(r.id, r.inserted) for r in receipts] == [(holder.id, False), (child.id, True)]
        assert storage.edges([child.id]) == [Edge(child.id, holder.id)]
        answer = storage.exchange(worker, [complete(holder)], want(9))
        assert [c.id for c in answer.claims] == [child.id]

    def test_a_parent_named_twice_counts_once(self, storage: Storage, worker: str) -> None:
        parent = make_job()
        child = make_job(parents=(parent.id, parent.id))
        storage.enqueue([parent, child])
        assert storage.edges([child.id]) == [Edge(child.id, parent.id)]
        [claimed] = claim(storage, worker)

        answer = storage.exchange(worker, [complete(claimed)], want(9))

        assert [c.id for c in answer.claims] == [child.id]

    def test_a_child_that_is_due_later_is_told_by_next_due(self, storage: Storage, worker: str) -> None:
        parent, child = _pair(delay=600.0)
        storage.enqueue([parent, child])
        [claimed] = claim(storage, worker)

        answer = storage.exchange(worker, [complete(claimed)], want(9))

        assert answer.claims == []
        assert answer.next_due == storage.get([child.id])[0].scheduled_at

    def test_a_gated_child_does_not_count_for_next_due(self, storage: Storage, worker: str) -> None:
        parent, child = _pair()
        storage.enqueue([parent, child])
        claim(storage, worker)

        assert storage.exchange(worker, [], want(9)).next_due is None

    def test_edges_are_found_from_both_ends(self, storage: Storage) -> None:
        top = make_job()
        middle = make_job(parents=(top.id,))
        bottom = make_job(parents=(middle.id,))
        storage.enqueue([top, middle, bottom])
        upper, lower = Edge(middle.id, top.id), Edge(bottom.id, middle.id)

        assert storage.edges([top.id]) == [upper]
        assert sorted(storage.edges([middle.id])) == sorted([upper, lower])
        assert storage.edges([bottom.id]) == [lower]
        assert sorted(storage.edges([top.id, bottom.id])) == sorted([upper, lower])
        assert storage.edges([]) == []

    def test_gated_jobs_are_pending_for_every_reader(self, storage: Storage, worker: str) -> None:
        parent, child = _pair()
        storage.enqueue([parent, child])
        claim(storage, worker)

        page = storage.list_jobs(JobFilter(statuses=(JobStatus.PENDING,)), 9, None)
        counts = storage.counts().by_queue["default"]

        assert [job.id for job in page.jobs] == [child.id]
        assert (counts.pending, counts.running) == (1, 1)

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_released_child_wakes_the_worker_that_serves_its_queue(
        self, storage: Storage, connect: Connect, worker: str, other: str
    ) -> None:
        parent, child = _pair(queue="elsewhere")
        storage.enqueue([parent, child])
        [claimed] = claim(storage, worker)
        wakeups = storage.listen(other, ["elsewhere"])
        assert storage.exchange(other, [], want(1, queues=("elsewhere",))).claims == []

        connect().exchange(worker, [complete(claimed)], None)

        assert wakeups.wait(5.0)
        assert [c.id for c in claim(storage, other, queues=("elsewhere",))] == [child.id]
        wakeups.close()

    def test_children_stored_while_their_parents_settle_run_once_and_not_early(
        self, storage: Storage, processes: Actors
    ) -> None:
        pairs = [(f"parent-{n:03}", f"child-{n:03}") for n in range(60)]
        batches: list[list[dict[str, Any]]] = []
        for parent, child in pairs:
            batches += [[{"id": parent}], [{"id": child, "parents": [parent]}]]
        actors = [
            processes.start("work_until", worker=f"worker-{n}", token=new_token_base(), total=2 * len(pairs))
            for n in range(2)
        ]
        producer = processes.start("enqueue_batches", batches=batches)

        for actor in [*actors, producer]:
            actor.go()

        assert len(producer.hear()) == 2 * len(pairs)
        assert [actor.hear() for actor in actors] == ["done", "done"]
        jobs = {job.id: job for pair in pairs for job in storage.get(pair)}
        assert {job.status for job in jobs.values()} == {JobStatus.COMPLETE}
        for parent, child in pairs:
            assert (jobs[child].claimed_at or 0) >= (jobs[parent].completed_at or 0)


def _pair(first: dict[str, Any] | None = None, **second: Any) -> tuple[NewJob, NewJob]:
    """A parent and its child; ``first`` are fields of the parent, the others the child's."""
    parent = make_job(**(first or {}))
    return parent, make_job(parents=(parent.id,), **second)
