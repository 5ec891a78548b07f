"""Forgetting: finished jobs after their time, with all that belongs to them, and workers long gone."""

from __future__ import annotations

from typing import Any

import pytest

from taskito_core.job import FOREVER, JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase, NewWorker
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    retry,
)

_DAY = 24 * 60 * 60 * 1000


class Pruning(ConformanceBase):
    @pytest.mark.parametrize("outcome", [complete, dead])
    def test_a_finished_job_goes_when_its_time_has_passed_and_not_before(
        self, storage: Storage, worker: str, outcome: Any
    ) -> None:
        claimed = enqueue_and_claim(storage, worker, result_ttl=60.0)
        storage.exchange(worker, [outcome(claimed)], None)

        storage.clock_shift = 30_000
        assert storage.prune(100).jobs == 0
        assert len(storage.get([claimed.id])) == 1

        storage.clock_shift = 60_001
        assert storage.prune(100).jobs == 1
        assert storage.get([claimed.id]) == []
        assert storage.list_jobs(JobFilter(), 9, None).jobs == []

    def test_all_that_belongs_to_a_job_goes_with_it(self, storage: Storage, worker: str) -> None:
        kept = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [dead(kept)], None)
        claimed = enqueue_and_claim(storage, worker, result_ttl=1.0)
        storage.exchange(worker, [retry(claimed)], None)
        [again] = claim(storage, worker)
        storage.exchange(worker, [dead(again)], None)
        assert len(storage.errors(claimed.id)) == 2

        storage.clock_shift = 2_000
        assert storage.prune(100).jobs == 1

        assert storage.errors(claimed.id) == []
        assert [letter.job_id for letter in storage.dead_letters(9, None).letters] == [kept.id]
        assert [letter.job_id for letter in storage.letters([claimed.id, kept.id])] == [kept.id]
        assert len(storage.errors(kept.id)) == 1

    def test_a_job_that_is_kept_for_ever_stays_whatever_the_retention(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker, result_ttl=FOREVER)
        storage.exchange(worker, [complete(claimed)], None)

        storage.clock_shift = 4000 * _DAY

        assert storage.prune(100).jobs == 0
        assert len(storage.get([claimed.id])) == 1

    def test_a_job_that_has_not_finished_stays_whatever_its_time(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(result_ttl=1.0) for _ in range(3)])
        [running, failed] = claim(storage, worker, 2)
        storage.exchange(worker, [retry(failed, 60.0)], None)

        storage.clock_shift = _DAY

        assert storage.prune(100).jobs == 0
        statuses = sorted(job.status for job in storage.list_jobs(JobFilter(), 9, None).jobs)
        assert statuses == [JobStatus.PENDING, JobStatus.PENDING, JobStatus.RUNNING]
        assert storage.get([running.id])[0].status is JobStatus.RUNNING

    def test_time_counts_from_the_end_not_from_the_start(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, result_ttl=60.0)
        storage.clock_shift = 100_000
        storage.exchange(worker, [complete(claimed)], None)

        storage.clock_shift = 130_000
        assert storage.prune(100).jobs == 0
        storage.clock_shift = 160_001
        assert storage.prune(100).jobs == 1

    def test_a_time_to_live_of_nothing_goes_at_the_next_pruning(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, result_ttl=0.0)
        storage.exchange(worker, [complete(claimed)], None)

        storage.clock_shift = 1
        assert storage.prune(100).jobs == 1

    def test_no_more_than_the_limit_goes_at_once(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(result_ttl=1.0) for _ in range(7)])
        storage.exchange(worker, [complete(c) for c in claim(storage, worker, 7)], None)
        storage.clock_shift = 2_000

        assert [storage.prune(3).jobs for _ in range(4)] == [3, 3, 1, 0]

    def test_a_pruned_id_counts_as_finished_for_those_who_wait(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, result_ttl=1.0)
        storage.exchange(worker, [complete(claimed)], None)
        storage.clock_shift = 2_000
        storage.prune(100)

        assert storage.await_finished(claimed.id, 0.0) is True

    def test_workers_gone_for_a_day_are_forgotten(self, storage: Storage, new_worker: NewWorker) -> None:
        stopped, died, beating = new_worker(), new_worker(), new_worker()
        storage.unregister(stopped)
        storage.rescue({died: 0})

        storage.clock_shift = _DAY // 2
        storage.prune(100)
        assert {info.id for info in storage.workers()} == {stopped, died, beating}

        storage.clock_shift = _DAY + 1_000
        storage.heartbeat(beating, [])
        storage.prune(100)
        assert {info.id for info in storage.workers()} == {beating}

    def test_a_job_outlives_the_memory_of_its_worker(self, storage: Storage, new_worker: NewWorker) -> None:
        first, second = new_worker(), new_worker()
        claimed = enqueue_and_claim(storage, first)
        storage.rescue({first: 0})
        storage.clock_shift = _DAY + 1_000
        storage.heartbeat(second, [])
        storage.prune(100)

        [again] = claim(storage, second)

        assert again.id == claimed.id
        assert storage.errors(claimed.id)[0].worker == first

    def test_a_worker_that_nobody_has_declared_dead_is_not_forgotten(
        self, storage: Storage, new_worker: NewWorker
    ) -> None:
        # The whole fleet was killed, and days pass: who comes next must see it, to rescue its jobs.
        killed = new_worker()
        claimed = enqueue_and_claim(storage, killed)
        storage.clock_shift = 3 * _DAY
        later = new_worker()

        storage.prune(100)

        assert killed in {peer.worker_id for peer in storage.heartbeat(later, []).peers}
        assert storage.rescue({killed: 0}) == [claimed.id]
