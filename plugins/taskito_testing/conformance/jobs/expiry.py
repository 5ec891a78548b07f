"""Jobs that are worth nothing if they are not started in time."""

from __future__ import annotations

from datetime import datetime

from taskito_core.job import JobStatus
from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    claim,
    complete,
    enqueue_and_claim,
    make_job,
    release,
    retry,
    status_of,
    want,
)


class Expiry(ConformanceBase):
    def test_an_expired_job_is_not_claimed_even_before_anybody_swept(
        self, storage: Storage, worker: str
    ) -> None:
        late, lasting = make_job(expires=60.0), make_job(expires=600.0)
        storage.enqueue([late, lasting])

        storage.clock_shift = 60_001

        assert [c.id for c in claim(storage, worker, 9)] == [lasting.id]

    def test_a_job_that_has_time_left_is_claimed(self, storage: Storage, worker: str) -> None:
        job = make_job(expires=60.0)
        storage.enqueue([job])

        storage.clock_shift = 30_000

        assert [c.id for c in claim(storage, worker)] == [job.id]

    def test_sweep_cancels_what_has_expired_and_says_since_when(self, storage: Storage, worker: str) -> None:
        late, lasting = make_job(expires=60.0), make_job(expires=600.0)
        storage.enqueue([late, lasting])
        storage.clock_shift = 60_001

        swept = storage.sweep(100)

        assert (swept.expired, swept.cancelled, swept.opened) == ([late.id], [], [])
        [job] = storage.get([late.id])
        assert job.status is JobStatus.CANCELLED
        assert job.completed_at is not None
        said = (job.error or "").removeprefix("expired: not started by ")
        assert abs(datetime.fromisoformat(said).timestamp() * 1000 - (job.expires_at or 0)) < 1_000
        assert status_of(storage, lasting.id) is JobStatus.PENDING

    def test_sweeping_again_finds_nothing(self, storage: Storage) -> None:
        storage.enqueue([make_job(expires=1.0)])
        storage.clock_shift = 2_000
        storage.sweep(100)

        swept = storage.sweep(100)

        assert (swept.expired, swept.cancelled, swept.opened, swept.next_at) == ([], [], [], None)

    def test_one_sweep_cancels_no_more_than_its_limit(self, storage: Storage) -> None:
        storage.enqueue([make_job(expires=1.0) for _ in range(5)])
        storage.clock_shift = 2_000

        assert [len(storage.sweep(2).expired) for _ in range(4)] == [2, 2, 1, 0]

    def test_a_moment_is_as_good_as_a_duration(self, storage: Storage, worker: str) -> None:
        moment = storage.now() + 60_000
        job = make_job(expires_at=moment)
        storage.enqueue([job])

        assert storage.get([job.id])[0].expires_at == moment
        storage.clock_shift = 60_001
        assert storage.sweep(9).expired == [job.id]

    def test_a_running_job_does_not_expire(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, expires=1.0)
        storage.clock_shift = 2_000

        assert storage.sweep(9).expired == []
        assert storage.exchange(worker, [complete(claimed)], None).recorded == {claimed.id}

    def test_a_job_that_waits_for_a_retry_does_not_expire(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, expires=1.0)
        storage.exchange(worker, [retry(claimed)], None)
        storage.clock_shift = 2_000

        assert storage.sweep(9).expired == []
        assert [c.id for c in claim(storage, worker)] == [claimed.id]

    def test_a_job_handed_back_unstarted_still_expires(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, expires=1.0)
        storage.exchange(worker, [release(claimed)], None)
        storage.clock_shift = 2_000

        assert claim(storage, worker) == []
        assert storage.sweep(9).expired == [claimed.id]

    def test_a_job_put_off_by_itself_had_started_and_does_not_expire(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker, expires=1.0)
        storage.exchange(worker, [release(claimed, delay=2.0)], None)
        storage.clock_shift = 3_000

        assert storage.sweep(9).expired == []
        assert [c.id for c in claim(storage, worker)] == [claimed.id]

    def test_a_gated_job_expires_too(self, storage: Storage, worker: str) -> None:
        parent = make_job(delay=3_600.0)
        child = make_job(parents=(parent.id,), expires=1.0)
        storage.enqueue([parent, child])
        storage.clock_shift = 2_000

        assert storage.sweep(9).expired == [child.id]

    def test_whoever_waits_for_an_expired_job_is_told(self, storage: Storage) -> None:
        job = make_job(expires=1.0)
        storage.enqueue([job])
        storage.clock_shift = 2_000
        assert not storage.await_finished(job.id, 0.0)

        storage.sweep(9)

        assert storage.await_finished(job.id, 0.0)

    def test_an_expired_job_is_pruned_in_its_time(self, storage: Storage) -> None:
        job = make_job(expires=1.0, result_ttl=60.0)
        storage.enqueue([job])
        storage.clock_shift = 2_000
        storage.sweep(9)

        assert storage.prune(9).jobs == 0
        storage.clock_shift = 63_000
        assert storage.prune(9).jobs == 1

    def test_a_short_claim_and_a_sweep_tell_when_the_next_job_expires(
        self, storage: Storage, worker: str
    ) -> None:
        soon, later = make_job(delay=900.0, expires=60.0), make_job(delay=900.0, expires=600.0)
        storage.enqueue([later, soon])
        [expected] = [job.expires_at for job in storage.get([soon.id])]

        assert storage.exchange(worker, [], want(1)).sweep_at == expected
        assert storage.sweep(9).next_at == expected
