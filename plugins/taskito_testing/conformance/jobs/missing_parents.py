"""Parents that are not stored: never were, or are no more. Who depends on them is refused, with the batch."""

from __future__ import annotations

import pytest

from taskito_core import messages
from taskito_core.errors import JobNotFoundError
from taskito_core.job import new_id
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, want


class MissingParents(ConformanceBase):
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_an_unknown_parent_is_refused_and_nothing_is_stored(
        self, storage: Storage, position: int
    ) -> None:
        jobs = [make_job(), make_job()]
        unknown = new_id()
        jobs.insert(position, make_job(parents=(jobs[0].id, unknown) if position else (unknown,)))

        with pytest.raises(JobNotFoundError, match=unknown):
            storage.enqueue(jobs)

        assert storage.list_jobs(JobFilter(), 9, None).jobs == []

    def test_every_unknown_parent_is_named(self, storage: Storage) -> None:
        known, unknown = make_job(), [new_id(), new_id()]
        child = make_job(parents=(unknown[0], known.id, unknown[1]))

        with pytest.raises(JobNotFoundError) as caught:
            storage.enqueue([known, child])

        assert messages.missing_parents(child.id, unknown) in str(caught.value)

    def test_a_parent_later_in_the_batch_is_unknown(self, storage: Storage) -> None:
        parent = make_job()
        child = make_job(parents=(parent.id,))

        with pytest.raises(JobNotFoundError):
            storage.enqueue([child, parent])

        assert storage.get([parent.id, child.id]) == []

    @pytest.mark.parametrize("held", [False, True], ids=["key free", "key held"])
    @pytest.mark.parametrize("tolerant", [False, True], ids=["needs it", "tolerant"])
    @pytest.mark.parametrize("how", ["pruned", "deleted"])
    def test_a_parent_that_is_stored_no_more_is_refused(
        self, storage: Storage, worker: str, how: str, tolerant: bool, held: bool
    ) -> None:
        parent = enqueue_and_claim(storage, worker, result_ttl=1.0)
        storage.exchange(worker, [complete(parent)], None)
        if how == "pruned":
            storage.clock_shift = 2_000
            assert storage.prune(9).jobs == 1
        else:
            assert storage.delete([parent.id]) == [parent.id]
        holders = [make_job(unique_key="k")] if held else []
        storage.enqueue(holders)
        child = make_job(parents=(parent.id,), tolerant=tolerant, unique_key="k")
        before = make_job()

        with pytest.raises(JobNotFoundError, match=parent.id):
            storage.enqueue([before, child])

        stored = storage.list_jobs(JobFilter(), 9, None).jobs
        assert [job.id for job in stored] == [job.id for job in holders]

    def test_a_batch_may_be_sent_again_when_its_parents_are_gone(self, storage: Storage, worker: str) -> None:
        parent = make_job(result_ttl=0.0)
        child = make_job(parents=(parent.id,))
        storage.enqueue([parent])
        storage.enqueue([child])
        [claimed] = claim(storage, worker)
        [last] = storage.exchange(worker, [complete(claimed)], want(1)).claims
        storage.exchange(worker, [complete(last)], None)
        storage.clock_shift = 1_000
        assert storage.prune(9).jobs == 1

        assert [receipt.inserted for receipt in storage.enqueue([child])] == [False]
