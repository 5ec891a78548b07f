"""What each outcome leaves behind."""

from __future__ import annotations

from dataclasses import fields

import pytest

from taskito_core.job import AttemptError, Charge, DeadLetter, DeadReason, ErrorKind, Job, JobStatus
from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    error_info,
    make_job,
    release,
    retry,
    want,
)


class Settling(ConformanceBase):
    def test_a_job_that_completes_has_no_error_any_more(self, storage: Storage, worker: str) -> None:
        """What its earlier attempts failed with is in their errors, and not the job's."""
        first = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [retry(first)], None)
        assert storage.get([first.id])[0].error is not None
        [again] = claim(storage, worker)

        storage.exchange(worker, [complete(again)], None)

        [job] = storage.get([first.id])
        assert (job.status, job.error, len(storage.errors(job.id))) == (JobStatus.COMPLETE, None, 1)

    def test_a_completed_job_keeps_its_result_and_its_times(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        started_at = claimed.claimed_at + 1

        answer = storage.exchange(worker, [complete(claimed, b"42", started_at)], None)

        job = _row(storage, claimed.id)
        assert answer.recorded == {claimed.id}
        assert (job.status, job.result, job.error) == (JobStatus.COMPLETE, b"42", None)
        assert (job.worker, job.token, job.started_at) == (worker, claimed.token, started_at)
        assert job.completed_at is not None
        assert claimed.claimed_at <= job.completed_at <= storage.now()
        assert (job.retry_count, job.crashes, job.interruptions) == (0, 0, 0)

    @pytest.mark.parametrize("charge", list(Charge))
    def test_a_retry_charges_one_counter_and_waits_for_its_delay(
        self, storage: Storage, worker: str, charge: Charge
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        error = error_info(message="first line\nsecond line")
        before = storage.now()

        answer = storage.exchange(worker, [retry(claimed, 90.0, charge, error, started_at=before)], None)

        job = _row(storage, claimed.id)
        assert answer.recorded == {claimed.id}
        assert (job.status, job.token, job.completed_at) == (JobStatus.PENDING, None, None)
        assert job.error == "ValueError: first line"
        assert job.started_at == before
        counters = {Charge(name): getattr(job, name) for name in (c.value for c in Charge)}
        assert counters == {counter: int(counter is charge) for counter in Charge}
        assert before + 90_000 <= job.scheduled_at <= storage.now() + 90_000

    def test_a_retry_is_claimed_once_its_delay_has_passed_and_carries_its_counters(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [retry(claimed, 60.0)], None)

        assert claim(storage, worker) == []
        storage.clock_shift = 60_000
        [again] = claim(storage, worker)

        assert (again.id, again.retry_count, again.crashes, again.interruptions) == (claimed.id, 1, 0, 0)

    def test_a_fraction_of_a_second_is_a_delay_too(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        before = storage.now()

        storage.exchange(worker, [retry(claimed, 0.25)], None)

        assert before + 250 <= _row(storage, claimed.id).scheduled_at <= storage.now() + 250

    def test_a_failed_attempt_is_written_down(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        error = error_info(kind=ErrorKind.TIMEOUT, type="TaskTimeout", message="too slow", traceback=None)
        before = storage.now()

        storage.exchange(worker, [retry(claimed, error=error)], None)

        [row] = storage.errors(claimed.id)
        assert row == AttemptError(
            job_id=claimed.id,
            token=claimed.token,
            attempt=1,
            kind=ErrorKind.TIMEOUT,
            type="TaskTimeout",
            message="too slow",
            traceback=None,
            worker=worker,
            failed_at=row.failed_at,
        )
        assert before <= row.failed_at <= storage.now()

    def test_attempts_are_numbered_over_all_counters_and_listed_oldest_first(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job()])
        for number, charge in enumerate([Charge.RETRY, Charge.CRASH, Charge.INTERRUPTION]):
            [claimed] = claim(storage, worker)
            error = error_info(message=f"failure {number}")
            storage.exchange(worker, [retry(claimed, charge=charge, error=error)], None)
        [claimed] = claim(storage, worker)
        storage.exchange(worker, [dead(claimed, error=error_info(message="the end"))], None)

        rows = storage.errors(claimed.id)

        assert [row.attempt for row in rows] == [1, 2, 3, 4]
        assert [row.message for row in rows] == ["failure 0", "failure 1", "failure 2", "the end"]

    def test_a_job_that_has_not_failed_has_no_errors(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(claimed)], None)

        assert storage.errors(claimed.id) == []
        assert storage.errors("nobody") == []

    @pytest.mark.parametrize("reason", list(DeadReason))
    @pytest.mark.parametrize("charge", [None, Charge.CRASH])
    def test_a_dead_job_leaves_a_letter_that_tells_everything(
        self, storage: Storage, worker: str, reason: DeadReason, charge: Charge | None
    ) -> None:
        new = make_job(
            priority=3, max_retries=1, timeout=9.5, result_ttl=60.0, metadata='{"k": "v"}', tags=("a", "b")
        )
        storage.enqueue([new])
        [claimed] = claim(storage, worker)
        error = error_info(kind=ErrorKind.CRASH, type="SIGKILL", message="", traceback="stack")

        storage.exchange(worker, [dead(claimed, reason, charge, error, claimed.claimed_at)], None)

        job = _row(storage, new.id)
        [letter] = storage.dead_letters(10, None).letters
        assert (job.status, job.error, job.result) == (JobStatus.DEAD, "SIGKILL", None)
        assert (job.token, job.crashes, job.retry_count) == (claimed.token, int(charge is not None), 0)
        assert job.started_at == claimed.claimed_at
        assert job.completed_at is not None
        assert letter == _letter_of(job, reason, "SIGKILL", "stack", job.completed_at)
        assert [row.message for row in storage.errors(new.id)] == [""]

    def test_a_released_job_is_as_it_was_before_the_claim(self, storage: Storage, worker: str) -> None:
        new = make_job(scheduled_at=1_600_000_000_123)
        storage.enqueue([new])
        [claimed] = claim(storage, worker)

        answer = storage.exchange(worker, [release(claimed)], None)

        job = _row(storage, new.id)
        assert answer.recorded == {new.id}
        assert (job.status, job.token, job.scheduled_at) == (JobStatus.PENDING, None, 1_600_000_000_123)
        assert (job.retry_count, job.crashes, job.interruptions, job.error) == (0, 0, 0, None)
        assert storage.errors(new.id) == []

    def test_a_release_after_a_retry_keeps_the_moment_the_retry_was_due(
        self, storage: Storage, worker: str
    ) -> None:
        first = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [retry(first, 30.0)], None)
        due = _row(storage, first.id).scheduled_at
        storage.clock_shift = 40_000
        [second] = claim(storage, worker)

        storage.exchange(worker, [release(second)], None)

        job = _row(storage, first.id)
        assert (job.scheduled_at, job.retry_count, job.error) == (due, 1, "ValueError: that was wrong")

    def test_one_call_records_outcomes_of_every_kind(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(4)])
        a, b, c, d = claim(storage, worker, 4)

        answer = storage.exchange(worker, [complete(a), retry(b, 60.0), dead(c), release(d)], want(4))

        assert answer.recorded == {a.id, b.id, c.id, d.id}
        assert [again.id for again in answer.claims] == [d.id]
        statuses = {job.id: job.status for job in storage.get([a.id, b.id, c.id, d.id])}
        assert statuses == {
            a.id: JobStatus.COMPLETE,
            b.id: JobStatus.PENDING,
            c.id: JobStatus.DEAD,
            d.id: JobStatus.RUNNING,
        }

    def test_a_large_batch_is_recorded_whole(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(500)])
        claims = claim(storage, worker, 500)
        outcomes = [complete(c, c.id.encode()) for c in claims]

        answer = storage.exchange(worker, outcomes, None)

        ids = [c.id for c in claims]
        assert answer.recorded == set(ids)
        assert {job.id: job.result for job in storage.get(ids)} == {name: name.encode() for name in ids}

    def test_an_exchange_of_nothing_for_nothing_changes_nothing(self, storage: Storage, worker: str) -> None:
        job = make_job()
        storage.enqueue([job])
        before = storage.get([job.id])

        answer = storage.exchange(worker, [], None)

        assert answer.recorded == frozenset()
        assert storage.get([job.id]) == before


def _row(storage: Storage, job_id: str) -> Job:
    [job] = storage.get([job_id])
    return job


def _letter_of(job: Job, reason: DeadReason, error: str, traceback: str | None, failed_at: int) -> DeadLetter:
    kept = {field.name for field in fields(DeadLetter)} & {field.name for field in fields(Job)}
    said = {
        "job_id": job.id,
        "reason": reason,
        "error": error,
        "traceback": traceback,
        "failed_at": failed_at,
    }
    return DeadLetter(**{name: getattr(job, name) for name in kept} | said)
