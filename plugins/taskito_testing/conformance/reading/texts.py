"""The sentences that users read in rows: those of ``taskito_core.messages``, the same from every store."""

from __future__ import annotations

import pytest

from taskito_core import JobNotFoundError, messages
from taskito_core.job import ErrorKind, Job, NewJob
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
)

#: What SQL and ``repr`` would quote in ways of their own.
ODD = """it's "odd" {key} %s %(x)s \\ ü"""


def _only(storage: Storage, job: NewJob) -> Job:
    [found] = storage.get([job.id])
    return found


class Texts(ConformanceBase):
    def test_a_job_cancelled_for_its_parent_says_which_and_how_it_ended(
        self, storage: Storage, worker: str
    ) -> None:
        buried = enqueue_and_claim(storage, worker)
        child = make_job(parents=(buried.id,))
        grandchild = make_job(parents=(child.id,))
        storage.enqueue([child, grandchild])

        storage.exchange(worker, [dead(buried)], None)
        late = make_job(parents=(buried.id,))
        storage.enqueue([late])

        by_parent = messages.PARENT_FAILED.format(parent=buried.id, status="dead")
        by_child = messages.PARENT_FAILED.format(parent=child.id, status="cancelled")
        assert _only(storage, child).error == _only(storage, late).error == by_parent
        assert _only(storage, grandchild).error == by_child

    def test_an_expired_job_says_when_it_had_to_start_to_the_millisecond(self, storage: Storage) -> None:
        relative = make_job(expires=1.0)
        absolute = make_job(expires_at=storage.now() + 1_007)
        storage.enqueue([relative, absolute])
        storage.clock_shift = 60_000

        storage.sweep(100)

        for job in (_only(storage, relative), _only(storage, absolute)):
            assert job.expires_at is not None
            assert job.error == messages.expired(job.expires_at)

    @pytest.mark.parametrize("key", ["plain", ODD], ids=["plain", "odd"])
    def test_a_dropped_job_says_of_which_key_every_slot_is_taken(self, storage: Storage, key: str) -> None:
        holders = [make_job(concurrency_key=key, concurrency=2) for _ in range(2)]
        dropped = make_job(concurrency_key=key, concurrency=2, drop_excess=True)
        storage.enqueue(holders)
        storage.enqueue([dropped])

        assert _only(storage, dropped).error == messages.DROPPED.format(concurrency=2, key=key)

    def test_a_rescued_job_says_which_worker_is_gone(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)

        storage.rescue({worker: 0})

        expected = messages.worker_lost(worker)
        [job] = storage.get([claimed.id])
        [row] = storage.errors(claimed.id)
        assert job.error == expected.summary
        assert (row.kind, row.type, row.message) == expected[:3]
        assert row.kind is ErrorKind.INTERRUPTED

    def test_a_job_that_was_asked_to_cancel_says_so_however_its_attempt_ends(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(3)])
        retried, released, left = claim(storage, worker, 3)
        asked = [retried.id, released.id, left.id]
        storage.ask_to_cancel(asked, force=False)
        rescued = enqueue_and_claim(storage, other)
        storage.ask_to_cancel([rescued.id], force=True)

        storage.exchange(worker, [retry(retried), release(released)], None)
        storage.unregister(worker)
        storage.rescue({other: 0})

        errors = {job.error for job in storage.get([*asked, rescued.id])}
        assert errors == {messages.CANCELLED_WHILE_RUNNING}

    def test_the_reason_of_a_cancel_is_kept_letter_by_letter(self, storage: Storage) -> None:
        job, child = make_job(), make_job()
        storage.enqueue([job, child])

        storage.cancel([job.id], ODD)
        storage.cancel([child.id], messages.CANCELLED_BEFORE_START)

        assert _only(storage, job).error == ODD
        assert _only(storage, child).error == messages.CANCELLED_BEFORE_START

    def test_a_failed_attempt_leaves_its_summary_in_the_job_and_its_text_in_its_errors(
        self, storage: Storage, worker: str
    ) -> None:
        error = error_info(message=f"{ODD}\nsecond line")
        claimed = enqueue_and_claim(storage, worker)

        storage.exchange(worker, [retry(claimed, error=error)], None)

        assert storage.get([claimed.id])[0].error == error.summary
        assert storage.errors(claimed.id)[0].message == error.message

    def test_a_child_of_nothing_is_refused_with_the_names_of_its_parents(
        self, storage: Storage, worker: str
    ) -> None:
        there = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(there)], None)
        child = make_job(parents=("missing", there.id))

        with pytest.raises(JobNotFoundError) as refused:
            storage.enqueue([child])

        assert refused.value.args[0] == messages.missing_parents(child.id, ["missing"])
