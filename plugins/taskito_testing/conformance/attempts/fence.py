"""The fence: only the holder of a claim may settle it, and only once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taskito_core.job import Claim, JobStatus, Outcome
from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    new_token,
    release,
    retry,
    want,
)

_EVERY_OUTCOME = pytest.mark.parametrize("outcome", [complete, retry, dead, release])


class Fence(ConformanceBase):
    @_EVERY_OUTCOME
    def test_late_outcome_of_a_rescued_job_changes_nothing(
        self, storage: Storage, worker: str, other: str, outcome: Callable[[Claim], Outcome]
    ) -> None:
        stale = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})
        [fresh] = claim(storage, other)
        before = storage.get([fresh.id]), storage.errors(fresh.id)

        answer = storage.exchange(worker, [outcome(stale)], None)

        assert answer.recorded == frozenset()
        assert (storage.get([fresh.id]), storage.errors(fresh.id)) == before
        assert before[0][0].status is JobStatus.RUNNING

    @_EVERY_OUTCOME
    def test_outcome_of_a_rescued_job_that_nobody_took_yet_changes_nothing(
        self, storage: Storage, worker: str, outcome: Callable[[Claim], Outcome]
    ) -> None:
        stale = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})
        before = storage.get([stale.id]), storage.errors(stale.id)

        answer = storage.exchange(worker, [outcome(stale)], None)

        assert answer.recorded == frozenset()
        assert (storage.get([stale.id]), storage.errors(stale.id)) == before

    @pytest.mark.parametrize("outcome", [complete, dead, release])
    def test_settling_again_after_a_retry_was_recorded_is_dropped(
        self, storage: Storage, worker: str, outcome: Callable[[Claim], Outcome]
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [retry(claimed)], None)
        before = storage.get([claimed.id])

        answer = storage.exchange(worker, [outcome(claimed)], None)

        assert answer.recorded == frozenset()
        assert storage.get([claimed.id]) == before

    @pytest.mark.parametrize("outcome", [complete, retry, dead])
    def test_settling_after_a_release_is_dropped(
        self, storage: Storage, worker: str, outcome: Callable[[Claim], Outcome]
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [release(claimed)], None)
        before = storage.get([claimed.id])

        answer = storage.exchange(worker, [outcome(claimed)], None)

        assert answer.recorded == frozenset()
        assert storage.get([claimed.id]) == before
        assert storage.errors(claimed.id) == []

    @_EVERY_OUTCOME
    def test_an_outcome_with_a_wrong_token_changes_nothing(
        self, storage: Storage, worker: str, outcome: Callable[[Claim], Outcome]
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        before = storage.get([claimed.id])

        answer = storage.exchange(worker, [outcome(claimed._replace(token=new_token()))], None)

        assert answer.recorded == frozenset()
        assert storage.get([claimed.id]) == before
        assert storage.errors(claimed.id) == []
        assert storage.dead_letters(10, None).letters == []

    @_EVERY_OUTCOME
    def test_an_outcome_of_an_unknown_job_is_not_named(
        self, storage: Storage, worker: str, outcome: Callable[[Claim], Outcome]
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)

        answer = storage.exchange(worker, [outcome(claimed._replace(id="nobody"))], None)

        assert answer.recorded == frozenset()
        assert storage.errors("nobody") == []
        assert storage.dead_letters(10, None).letters == []

    def test_a_fenced_outcome_does_not_keep_others_from_being_recorded(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        stale = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})
        [again] = claim(storage, other)
        good = enqueue_and_claim(storage, other)

        answer = storage.exchange(other, [complete(stale), complete(good)], None)

        assert answer.recorded == {good.id}
        statuses = {job.id: job.status for job in storage.get([again.id, good.id])}
        assert statuses == {again.id: JobStatus.RUNNING, good.id: JobStatus.COMPLETE}

    @_EVERY_OUTCOME
    def test_outcomes_are_recorded_whoever_sends_them(
        self, storage: Storage, worker: str, outcome: Callable[[Claim], Outcome]
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)

        answer = storage.exchange("never registered", [outcome(claimed)], want(1))

        assert answer.recorded == {claimed.id}
        assert not answer.alive
        assert answer.claims == []

    def test_a_row_has_a_token_exactly_while_it_runs_and_once_it_is_finished(
        self, storage: Storage, worker: str
    ) -> None:
        def token() -> int | None:
            return storage.get([claimed.id])[0].token

        claimed = enqueue_and_claim(storage, worker)
        assert token() == claimed.token

        storage.exchange(worker, [release(claimed)], None)
        assert token() is None

        [again] = claim(storage, worker)
        storage.exchange(worker, [retry(again)], None)
        assert token() is None

        [last] = claim(storage, worker)
        storage.exchange(worker, [complete(last)], None)
        assert token() == last.token
