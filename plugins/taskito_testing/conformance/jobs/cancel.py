"""Cancelling: at once what is pending, through its worker what runs."""

from __future__ import annotations

from typing import Any

import pytest

from taskito_core.job import Charge, ErrorKind, JobStatus
from taskito_core.storage import Storage
from taskito_testing.conformance.base import PATIENCE, ConformanceBase, Connect
from taskito_testing.factories import (
    cancelled,
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    release,
    retry,
    status_of,
    want,
)


class Cancelling(ConformanceBase):
    def test_what_a_worker_says_of_a_job_that_was_cancelled_as_it_left_is_fenced(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.ask_to_cancel([claimed.id], False)
        storage.unregister(worker)

        assert storage.get([claimed.id])[0].status is JobStatus.CANCELLED
        assert storage.exchange(worker, [cancelled(claimed)], None).recorded == frozenset()

    def test_a_pending_job_is_cancelled_for_a_reason(self, storage: Storage, worker: str) -> None:
        job, kept = make_job(), make_job()
        storage.enqueue([job, kept])

        assert storage.cancel([job.id], "not wanted any more") == [job.id]

        [row] = storage.get([job.id])
        assert (row.status, row.error) == (JobStatus.CANCELLED, "not wanted any more")
        assert row.completed_at is not None
        assert storage.await_finished(job.id, 0.0)
        assert [c.id for c in claim(storage, worker, 9)] == [kept.id]

    def test_only_the_pending_ones_are_cancelled(self, storage: Storage, worker: str) -> None:
        running = enqueue_and_claim(storage, worker)
        done = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(done)], None)
        later = make_job(delay=600.0)
        child = make_job(parents=(running.id,))
        storage.enqueue([later, child])

        ids = storage.cancel([running.id, done.id, later.id, child.id, "unknown"], "no")

        assert sorted(ids) == sorted([later.id, child.id])
        assert status_of(storage, running.id) is JobStatus.RUNNING
        assert status_of(storage, done.id) is JobStatus.COMPLETE

    def test_parent_and_child_named_together_are_both_named(self, storage: Storage) -> None:
        parent = make_job()
        child = make_job(parents=(parent.id,))
        grandchild = make_job(parents=(child.id,))
        storage.enqueue([parent, child, grandchild])

        ids = storage.cancel([child.id, parent.id], "no")

        assert sorted(ids) == sorted([parent.id, child.id])
        assert {job.error for job in storage.get([parent.id, child.id])} == {"no"}
        assert storage.get([grandchild.id])[0].error == f"parent {child.id} was cancelled"

    def test_a_tolerant_child_is_released(self, storage: Storage, worker: str) -> None:
        parent = make_job()
        child = make_job(parents=(parent.id,), tolerant=True)
        storage.enqueue([parent, child])

        assert storage.cancel([parent.id], "no") == [parent.id]

        assert [c.id for c in claim(storage, worker, 9)] == [child.id]

    def test_cancelling_again_does_nothing(self, storage: Storage) -> None:
        job = make_job()
        storage.enqueue([job])
        storage.cancel([job.id], "first")

        assert storage.cancel([job.id], "second") == []

        assert storage.get([job.id])[0].error == "first"

    def test_a_cancelled_job_is_pruned_in_its_time(self, storage: Storage) -> None:
        job = make_job(result_ttl=60.0)
        storage.enqueue([job])
        storage.cancel([job.id], "no")

        assert storage.prune(9).jobs == 0
        storage.clock_shift = 61_000
        assert storage.prune(9).jobs == 1

    def test_the_worker_hears_of_it_in_its_heartbeat(self, storage: Storage, worker: str, other: str) -> None:
        storage.enqueue([make_job() for _ in range(3)])
        soft, hard, left = claim(storage, worker, 3)
        running = [(c.id, c.token) for c in (soft, hard, left)]
        assert storage.heartbeat(worker, running).cancels == {}

        assert storage.ask_to_cancel([soft.id], False) == [soft.id]
        assert storage.ask_to_cancel([hard.id], True) == [hard.id]

        assert storage.heartbeat(worker, running).cancels == {soft.id: False, hard.id: True}
        assert storage.heartbeat(other, []).cancels == {}
        assert [job.cancel_asked for job in storage.get([soft.id])] == [True]
        assert [job.cancel_asked for job in storage.get([left.id])] == [False]

    def test_force_stays_once_it_was_said(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        for force in (False, True, False):
            assert storage.ask_to_cancel([claimed.id], force) == [claimed.id]

        assert storage.heartbeat(worker, [(claimed.id, claimed.token)]).cancels == {claimed.id: True}

    def test_only_running_jobs_are_asked(self, storage: Storage, worker: str) -> None:
        done = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(done)], None)
        pending = make_job()
        storage.enqueue([pending])

        assert storage.ask_to_cancel([done.id, pending.id, "unknown"], True) == []

        [claimed] = claim(storage, worker)
        assert storage.heartbeat(worker, [(claimed.id, claimed.token)]).cancels == {}

    @pytest.mark.usefixtures("needs_wakeups")
    def test_asking_wakes_the_worker_at_once_even_if_it_does_not_wait_for_jobs(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        wakeups = storage.listen(worker, ["default"])

        connect().ask_to_cancel([claimed.id], False)

        assert wakeups.wait(PATIENCE / 2)
        wakeups.close()

    def test_a_cancelled_outcome_ends_the_job(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.ask_to_cancel([claimed.id], False)

        answer = storage.exchange(worker, [cancelled(claimed, "as you wish", started_at=5)], None)

        [job] = storage.get([claimed.id])
        assert answer.recorded == {claimed.id}
        assert (job.status, job.error, job.started_at) == (JobStatus.CANCELLED, "as you wish", 5)
        assert (job.cancel_asked, job.token) == (False, claimed.token)
        assert storage.errors(claimed.id) == []
        assert storage.await_finished(claimed.id, 0.0)

    def test_a_cancelled_outcome_sent_twice_is_named_twice(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [cancelled(claimed, "first")], None)

        assert storage.exchange(worker, [cancelled(claimed, "second")], None).recorded == {claimed.id}
        assert storage.get([claimed.id])[0].error == "first"

    def test_a_cancelled_outcome_of_a_lost_claim_changes_nothing(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        stale = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})
        claim(storage, other)

        assert storage.exchange(worker, [cancelled(stale)], None).recorded == set()
        assert status_of(storage, stale.id) is JobStatus.RUNNING

    @pytest.mark.parametrize(
        "outcome",
        [retry, release, lambda c: retry(c, 60.0, Charge.CRASH), lambda c: release(c, delay=60.0)],
        ids=["retry", "release", "crash", "snooze"],
    )
    def test_a_job_that_was_asked_does_not_come_back(
        self, storage: Storage, worker: str, outcome: Any
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.ask_to_cancel([claimed.id], False)

        answer = storage.exchange(worker, [outcome(claimed)], want(9))

        [job] = storage.get([claimed.id])
        assert answer.recorded == {claimed.id}
        assert answer.claims == []
        assert (job.status, job.error) == (JobStatus.CANCELLED, "cancelled while running")
        assert (job.retry_count, job.crashes, storage.errors(job.id)) == (0, 0, [])
        assert storage.await_finished(claimed.id, 0.0)

    def test_a_retry_that_became_a_cancel_may_be_sent_again(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.ask_to_cancel([claimed.id], False)
        storage.exchange(worker, [retry(claimed)], None)

        assert storage.exchange(worker, [retry(claimed)], None).recorded == {claimed.id}

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [(complete, JobStatus.COMPLETE), (dead, JobStatus.DEAD)],
        ids=["complete", "dead"],
    )
    def test_a_job_that_ended_all_the_same_ended_so(
        self, storage: Storage, worker: str, outcome: Any, status: JobStatus
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.ask_to_cancel([claimed.id], True)

        storage.exchange(worker, [outcome(claimed)], None)

        [job] = storage.get([claimed.id])
        assert (job.status, job.cancel_asked) == (status, False)

    def test_a_rescued_job_that_was_asked_is_cancelled(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.ask_to_cancel([claimed.id], False)

        assert storage.rescue({worker: 0}) == [claimed.id]

        [job] = storage.get([claimed.id])
        assert (job.status, job.interruptions) == (JobStatus.CANCELLED, 1)
        assert job.error == "cancelled while running"
        assert [error.kind for error in storage.errors(claimed.id)] == [ErrorKind.INTERRUPTED]

    def test_a_worker_that_leaves_a_job_that_was_asked_leaves_it_cancelled(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.ask_to_cancel([claimed.id], False)

        storage.unregister(worker)

        assert status_of(storage, claimed.id) is JobStatus.CANCELLED
