"""Deleting: finished jobs, with all that belongs to them, but no parent of a live job."""

from __future__ import annotations

from typing import Any

import pytest

from taskito_core.job import Claim, JobStatus, Outcome
from taskito_core.storage import Storage
from taskito_core.storage_client import Edge, LogFilter
from taskito_core.storage_worker import Progress
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    cancelled,
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    make_log,
    want,
)

_ENDS = {JobStatus.COMPLETE: complete, JobStatus.DEAD: dead, JobStatus.CANCELLED: cancelled}


def _delete(storage: Storage, job_id: str) -> bool:
    return storage.delete([job_id]) == [job_id]


def _purge(storage: Storage, job_id: str) -> bool:
    [job] = storage.get([job_id])
    return storage.purge(job.status, (job.completed_at or 0) + 1, 100) == 1


def _prune(storage: Storage, job_id: str) -> bool:
    storage.clock_shift += 1_000
    return storage.prune(100).jobs == 1


_WAYS = pytest.mark.parametrize("way", [_delete, _purge, _prune], ids=["delete", "purge", "prune"])


class Deleting(ConformanceBase):
    @pytest.mark.parametrize("end", _ENDS.values(), ids=_ENDS)
    def test_a_finished_job_is_deleted(self, storage: Storage, worker: str, end: Any) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [end(claimed)], None)

        assert storage.delete([claimed.id, "unknown"]) == [claimed.id]

        assert storage.get([claimed.id]) == []
        assert storage.delete([claimed.id]) == []

    def test_a_live_job_is_not_deleted(self, storage: Storage, worker: str) -> None:
        running = enqueue_and_claim(storage, worker)
        pending = make_job()
        storage.enqueue([pending])

        assert storage.delete([running.id, pending.id]) == []

        assert len(storage.get([running.id, pending.id])) == 2

    @_WAYS
    def test_all_that_belongs_to_a_job_is_deleted_with_it(
        self, storage: Storage, worker: str, way: Any
    ) -> None:
        parent = enqueue_and_claim(storage, worker)
        child = make_job(parents=(parent.id,), result_ttl=0.0)
        storage.enqueue([child])
        [claimed] = storage.exchange(worker, [complete(parent)], want(1)).claims
        storage.note([make_log(child.id), make_log(parent.id), Progress(child.id, 5.0)])
        storage.exchange(worker, [dead(claimed)], None)
        storage.replay(child.id, "replay")
        assert len(storage.replays(child.id)) == 1

        assert way(storage, child.id)

        assert storage.get([child.id]) == []
        assert storage.errors(child.id) == []
        assert storage.letters([child.id]) == []
        assert storage.logs(LogFilter(job_id=child.id), 9) == []
        assert storage.replays(child.id) == []
        assert storage.edges([child.id, parent.id]) == [Edge("replay", parent.id)]
        assert len(storage.logs(LogFilter(job_id=parent.id), 9)) == 1

    @_WAYS
    def test_a_parent_of_a_live_job_is_kept_until_that_has_finished(
        self, storage: Storage, worker: str, way: Any
    ) -> None:
        parents = make_job(result_ttl=0.0), make_job()
        child = make_job(parents=tuple(parent.id for parent in parents))
        storage.enqueue([*parents, child])
        claims = {c.id: c for c in claim(storage, worker, 2)}
        first, second = (claims[parent.id] for parent in parents)
        storage.exchange(worker, [complete(first)], None)

        assert not way(storage, first.id)  # the child waits
        [last] = storage.exchange(worker, [complete(second)], want(1)).claims
        storage.purge(JobStatus.COMPLETE, 0, 100)
        assert storage.delete([first.id]) == []  # the child runs, and may ask for its parent's result
        assert len(storage.edges([child.id])) == 2
        storage.exchange(worker, [complete(last)], None)

        assert storage.delete([second.id]) == [second.id]
        assert storage.edges([child.id]) == [Edge(child.id, first.id)]
        assert storage.prune(9).jobs + len(storage.delete([first.id])) == 1
        assert storage.edges([child.id]) == []

    def test_parent_and_child_may_go_together(self, storage: Storage, worker: str) -> None:
        parent = make_job()
        child = make_job(parents=(parent.id,))
        storage.enqueue([parent, child])
        storage.cancel([parent.id], "no")

        assert sorted(storage.delete([parent.id, child.id])) == sorted([parent.id, child.id])
        assert storage.edges([parent.id, child.id]) == []

    def test_deleting_an_id_frees_it(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(claimed)], None)
        storage.delete([claimed.id])

        assert storage.enqueue([make_job(id=claimed.id)])[0].inserted

    @pytest.mark.parametrize("status", _ENDS)
    def test_a_purge_takes_one_state_and_what_ended_before(
        self, storage: Storage, worker: str, status: JobStatus
    ) -> None:
        ended: dict[str, list[Claim]] = {}
        for age in ("old", "new"):
            storage.enqueue([make_job() for _ in _ENDS])
            ended[age] = claim(storage, worker, 3)
            pairs = zip(ended[age], _ENDS.values(), strict=True)
            outcomes: list[Outcome] = [end(c) for c, end in pairs]  # type: ignore[operator]
            storage.exchange(worker, outcomes, None)
            storage.clock_shift += 60_000
        border = storage.now() - 60_000 - 30_000

        assert storage.purge(status, border, 100) == 1

        [gone] = [c.id for c, state in zip(ended["old"], _ENDS, strict=True) if state is status]
        everything = [c.id for claims in ended.values() for c in claims]
        assert {job.id for job in storage.get(everything)} == set(everything) - {gone}
        assert storage.letters([gone]) == []

    def test_a_purge_takes_no_more_than_its_limit(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(5)])
        storage.exchange(worker, [complete(c) for c in claim(storage, worker, 5)], None)
        later = storage.now() + 1_000

        assert [storage.purge(JobStatus.COMPLETE, later, 2) for _ in range(4)] == [2, 2, 1, 0]

    def test_a_purge_of_live_jobs_takes_nothing(self, storage: Storage, worker: str) -> None:
        enqueue_and_claim(storage, worker)
        storage.enqueue([make_job()])
        later = storage.now() + 1_000

        assert storage.purge(JobStatus.RUNNING, later, 9) == storage.purge(JobStatus.PENDING, later, 9) == 0
        assert storage.counts().by_queue["default"].pending == 1

    def test_parents_that_are_kept_do_not_stand_in_the_way_of_others(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job(id=f"parent-{n}", result_ttl=0.0) for n in range(4)])
        storage.enqueue([make_job(parents=(f"parent-{n}",), delay=600.0) for n in range(4)])
        storage.exchange(worker, [complete(c) for c in claim(storage, worker, 9)], None)
        storage.clock_shift = 10
        storage.enqueue([make_job(id="alone", result_ttl=0.0)])
        storage.exchange(worker, [complete(c) for c in claim(storage, worker, 9)], None)
        storage.clock_shift = 1_000

        assert storage.prune(1).jobs == 1

        assert storage.get(["alone"]) == []
