"""An exchange whose answer was lost is sent again: what it recorded must be named, and done once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taskito_core.job import Charge, Claim, JobStatus, Outcome
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


class Resending(ConformanceBase):
    @pytest.mark.parametrize("outcome", [complete, retry, dead])
    def test_an_outcome_sent_twice_is_named_twice_and_recorded_once(
        self, storage: Storage, worker: str, outcome: Callable[[Claim], Outcome]
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        first = storage.exchange(worker, [outcome(claimed)], None)
        before = storage.get([claimed.id]), storage.errors(claimed.id), storage.dead_letters(9, None)

        second = storage.exchange(worker, [outcome(claimed)], None)

        assert first.recorded == second.recorded == {claimed.id}
        after = storage.get([claimed.id]), storage.errors(claimed.id), storage.dead_letters(9, None)
        assert after == before

    def test_a_release_sent_twice_changes_nothing_more(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [release(claimed)], None)
        before = storage.get([claimed.id])

        storage.exchange(worker, [release(claimed)], None)

        assert storage.get([claimed.id]) == before

    def test_a_release_sent_again_does_not_touch_the_next_claim(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [release(claimed)], None)
        [fresh] = claim(storage, other)

        storage.exchange(worker, [release(claimed, lane="elsewhere")], None)

        [job] = storage.get([claimed.id])
        assert (job.status, job.token, job.worker) == (JobStatus.RUNNING, fresh.token, other)

    def test_a_retry_sent_again_does_not_touch_the_next_claim(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [retry(claimed)], None)
        [fresh] = claim(storage, other)

        answer = storage.exchange(worker, [retry(claimed)], None)

        [job] = storage.get([claimed.id])
        assert answer.recorded == {claimed.id}
        assert (job.status, job.token, job.retry_count) == (JobStatus.RUNNING, fresh.token, 1)
        assert len(storage.errors(claimed.id)) == 1

    def test_a_retry_sent_again_is_named_even_when_the_job_has_finished_since(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [retry(claimed)], None)
        [fresh] = claim(storage, worker)
        storage.exchange(worker, [complete(fresh)], None)

        answer = storage.exchange(worker, [retry(claimed)], None)

        assert answer.recorded == {claimed.id}
        assert storage.get([claimed.id])[0].status is JobStatus.COMPLETE

    def test_a_batch_sent_again_with_one_new_outcome_names_them_all(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(4)])
        a, b, c, d = claim(storage, worker, 4)
        sent: list[Outcome] = [complete(a), retry(b, 60.0), dead(c, charge=Charge.CRASH)]
        storage.exchange(worker, sent, None)

        answer = storage.exchange(worker, [*sent, complete(d)], want(1))

        assert answer.recorded == {a.id, b.id, c.id, d.id}
        counters = {job.id: (job.retry_count, job.crashes) for job in storage.get([b.id, c.id])}
        assert counters == {b.id: (1, 0), c.id: (0, 1)}
        assert len(storage.dead_letters(9, None).letters) == 1

    def test_a_lost_retry_that_comes_after_a_rescue_was_fenced(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})

        answer = storage.exchange(worker, [retry(claimed, error=error_info())], None)

        # The rescue wrote an error under the same token; that is not this outcome's.
        assert answer.recorded == frozenset()
        [job] = storage.get([claimed.id])
        assert (job.retry_count, job.interruptions) == (0, 1)
