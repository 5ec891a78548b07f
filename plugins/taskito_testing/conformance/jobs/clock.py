"""A store's clock that was ahead, and is set back: nothing waits until the wrong time comes again."""

from __future__ import annotations

import pytest

from taskito_core.job import JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase, Connect
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_entry,
    make_job,
    release,
    retry,
    status_of,
)

_APP = "app:queue"
_MINUTE, _HOUR, _TEN_YEARS = 60_000, 3_600_000, 315_576_000_000
#: Milliseconds that a test may take.
_SLOW = 20_000
_MANY = 1_000


def _set_back(storage: Storage, worker: str) -> int:
    """Set the clock right, as a worker finds it; by how much it was set back."""
    storage.heartbeat(worker, [])
    storage.clock_shift = 0
    storage.heartbeat(worker, [])
    return storage.sweep(_MANY).set_back


class ClockSetBack(ConformanceBase):
    @pytest.mark.parametrize("ahead", [_HOUR, _TEN_YEARS])
    def test_what_was_due_by_the_clock_of_before_is_due_in_its_order(
        self, storage: Storage, worker: str, ahead: int
    ) -> None:
        jobs = [make_job(), make_job(), make_job(priority=1)]
        for shift, job in enumerate(jobs, ahead - 2):
            storage.clock_shift = shift
            storage.enqueue([job])

        by = _set_back(storage, worker)

        assert abs(by - ahead) < _SLOW
        assert [c.id for c in claim(storage, worker, 9)] == [jobs[2].id, jobs[0].id, jobs[1].id]

    def test_it_is_told_once_and_to_one_worker(
        self, storage: Storage, connect: Connect, worker: str, other: str
    ) -> None:
        second = connect()
        storage.clock_shift = second.clock_shift = _HOUR
        for one, its_id in ((storage, worker), (second, other)):
            one.heartbeat(its_id, [])
        storage.clock_shift = second.clock_shift = 0

        told = []
        for one, its_id in ((storage, worker), (second, other), (storage, worker)):
            one.heartbeat(its_id, [])
            told.append(one.sweep(_MANY).set_back)

        assert abs(told[0] - _HOUR) < _SLOW
        assert told[1:] == [0, 0]

    def test_a_row_alone_says_that_the_clock_was_set_back(self, storage: Storage, worker: str) -> None:
        job = make_job()
        storage.clock_shift = _HOUR
        storage.enqueue([job])
        storage.clock_shift = 0

        assert storage.sweep(_MANY).set_back > _HOUR - _SLOW
        assert [c.id for c in claim(storage, worker)] == [job.id]

    def test_a_worker_that_was_not_there_finds_it_when_it_comes(
        self, storage: Storage, connect: Connect, worker: str, other: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.clock_shift = _HOUR
        storage.heartbeat(worker, [])
        storage.exchange(worker, [retry(claimed, delay=0)], None)
        storage.unregister(worker)

        fresh = connect()
        fresh.heartbeat(other, [])
        assert fresh.sweep(_MANY).set_back > _HOUR - _SLOW

        assert [c.id for c in claim(fresh, other)] == [claimed.id]

    @pytest.mark.parametrize("swing", [5, 1_000, 1_500])
    def test_a_clock_that_swings_a_little_was_not_set_back(
        self, storage: Storage, worker: str, swing: int
    ) -> None:
        jobs = [make_job(), make_job(delay=60.0)]
        storage.clock_shift = swing
        storage.enqueue(jobs)
        before = storage.get([job.id for job in jobs])

        assert _set_back(storage, worker) == 0

        assert storage.get([job.id for job in jobs]) == before

    # ---- waits ----

    @pytest.mark.parametrize("ahead", [_HOUR, _TEN_YEARS])
    def test_a_delay_that_was_counted_ahead_keeps_its_length(
        self, storage: Storage, worker: str, ahead: int
    ) -> None:
        job, many = make_job(delay=60.0), [make_job(delay=60.0) for _ in range(2_001)]
        storage.clock_shift = ahead
        storage.enqueue([job])
        storage.enqueue(many)

        for _ in range(3):
            _set_back(storage, worker)

        for scheduled_at in {one.scheduled_at for one in storage.get([job.id, many[-1].id])}:
            assert _MINUTE - _SLOW < scheduled_at - storage.now() <= _MINUTE
        assert claim(storage, worker) == []

    def test_retries_and_releases_keep_theirs(self, storage: Storage, worker: str) -> None:
        failed, snoozed = enqueue_and_claim(storage, worker), enqueue_and_claim(storage, worker)
        storage.clock_shift = _HOUR
        storage.exchange(worker, [retry(failed, delay=60.0), release(snoozed, delay=60.0)], None)

        _set_back(storage, worker)

        for job in storage.get([failed.id, snoozed.id]):
            assert _MINUTE - _SLOW < job.scheduled_at - storage.now() <= _MINUTE
        storage.clock_shift = _MINUTE
        assert {c.id for c in claim(storage, worker, 9)} == {failed.id, snoozed.id}

    def test_a_wait_that_was_counted_before_or_afterwards_stays(self, storage: Storage, worker: str) -> None:
        jobs = [make_job(delay=7_200.0), make_job(delay=600.0), make_job(expires=600.0)]
        storage.enqueue(jobs)
        before = storage.get([job.id for job in jobs])
        storage.clock_shift = _HOUR
        storage.heartbeat(worker, [])
        storage.clock_shift = 0
        storage.heartbeat(worker, [])
        fresh = make_job(delay=600.0)
        storage.enqueue([fresh])
        before += storage.get([fresh.id])

        storage.sweep(_MANY)

        assert storage.get([job.id for job in (*jobs, fresh)]) == before

    def test_a_moment_that_was_named_stays_unless_it_had_come(self, storage: Storage, worker: str) -> None:
        now = storage.now()
        later = make_job(scheduled_at=now + 2 * _HOUR, expires_at=now + 3 * _HOUR)
        had_come = make_job(scheduled_at=now + _HOUR // 2, expires_at=now + 3 * _HOUR)
        storage.clock_shift = _HOUR
        storage.enqueue([later, had_come])

        _set_back(storage, worker)

        [job] = storage.get([later.id])
        assert (job.scheduled_at, job.expires_at) == (later.scheduled_at, later.expires_at)
        assert [c.id for c in claim(storage, worker, 9)] == [had_come.id]

    def test_a_moment_that_was_named_before_stays(self, storage: Storage, worker: str) -> None:
        job = make_job(scheduled_at=storage.now() + _HOUR // 2)
        storage.enqueue([job])
        storage.clock_shift = _HOUR

        _set_back(storage, worker)

        assert claim(storage, worker) == []
        storage.clock_shift = _HOUR // 2
        assert [c.id for c in claim(storage, worker)] == [job.id]

    def test_the_time_to_start_keeps_its_length(self, storage: Storage, worker: str) -> None:
        job = make_job(expires=60.0)
        storage.clock_shift = _HOUR
        storage.enqueue([job])

        _set_back(storage, worker)

        [kept] = storage.get([job.id])
        assert _MINUTE - _SLOW < (kept.expires_at or 0) - storage.now() <= _MINUTE
        storage.clock_shift = _MINUTE
        assert storage.sweep(_MANY).expired == [job.id]

    def test_jobs_behind_the_gate_of_their_key_are_let_in(self, storage: Storage, worker: str) -> None:
        key = {"concurrency_key": "k", "concurrency": 1}
        first, second, later = make_job(**key), make_job(**key), make_job(**key, delay=60.0)
        for shift, job in enumerate((first, second, later), _HOUR):
            storage.clock_shift = shift
            storage.enqueue([job])

        _set_back(storage, worker)
        ran = []
        for shift in (0, 0, _MINUTE):
            storage.clock_shift = shift
            storage.sweep(_MANY)
            [claimed] = claim(storage, worker)
            ran.append(claimed.id)
            storage.exchange(worker, [complete(claimed)], None)

        assert ran == [first.id, second.id, later.id]

    # ---- claims, and what has ended ----

    def test_a_claim_stands_and_a_release_of_it_is_due_at_once(self, storage: Storage, worker: str) -> None:
        storage.clock_shift = _HOUR
        kept, given_back = enqueue_and_claim(storage, worker), enqueue_and_claim(storage, worker)
        _set_back(storage, worker)

        recorded = storage.exchange(worker, [complete(kept), release(given_back)], None).recorded

        assert recorded == {kept.id, given_back.id}
        assert status_of(storage, kept.id) is JobStatus.COMPLETE
        assert [c.id for c in claim(storage, worker, 9)] == [given_back.id]

    def test_what_ended_is_pruned_in_its_time(self, storage: Storage, worker: str) -> None:
        storage.clock_shift = _TEN_YEARS
        claimed = enqueue_and_claim(storage, worker, result_ttl=60.0)
        storage.exchange(worker, [complete(claimed)], None)

        _set_back(storage, worker)
        early = storage.prune(9).jobs
        storage.clock_shift = _MINUTE

        assert (early, storage.prune(9).jobs) == (0, 1)

    def test_nothing_that_happened_is_later_than_now(self, storage: Storage, worker: str) -> None:
        storage.clock_shift = _HOUR
        storage.register_periodic(_APP, [(make_entry(), storage.now() + _MINUTE)])
        done, buried = enqueue_and_claim(storage, worker), enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(done, started_at=storage.now()), dead(buried)], None)
        enqueue_and_claim(storage, worker)

        _set_back(storage, worker)

        now = storage.now()
        for job in storage.list_jobs(JobFilter(), 9, None).jobs:
            for moment in (job.created_at, job.claimed_at, job.started_at, job.completed_at):
                assert moment is None or now - _SLOW < moment <= now
        [letter] = storage.dead_letters(9, None).letters
        assert letter.created_at <= letter.failed_at <= now
        assert [known.last_seen <= now for known in storage.workers()] == [True]
        assert storage.periodic()[0].registered_at <= now

    def test_more_than_the_limit_takes_several_sweeps(self, storage: Storage, worker: str) -> None:
        jobs = [make_job() for _ in range(5)]
        storage.clock_shift = _HOUR
        storage.enqueue(jobs)
        storage.clock_shift = 0

        sweeps = [storage.sweep(2)]
        while (next_at := sweeps[-1].next_at) is not None:
            assert next_at - sweeps[-1].now < 1_000
            sweeps.append(storage.sweep(2))

        assert [swept.set_back > 0 for swept in sweeps] == [True, *[False] * (len(sweeps) - 1)]
        assert {c.id for c in claim(storage, worker, 9)} == {job.id for job in jobs}

    # ---- periodic tasks ----

    def test_a_periodic_task_may_go_back_to_an_earlier_slot(self, storage: Storage) -> None:
        slot = storage.now() - 1_000
        storage.register_periodic(_APP, [(make_entry(), slot)])
        [due] = storage.due_periodic(_APP)
        storage.fire_periodic(due._replace(fired="noted"), [make_job()], slot + _HOUR)
        [state] = storage.periodic()

        assert storage.fire_periodic(state, [], slot + _MINUTE) is True
        assert storage.fire_periodic(state, [], slot + _MINUTE) is False

        [back] = storage.periodic()
        assert (back.last_run, back.next_run, back.fired) == (slot, slot + _MINUTE, "noted")

    def test_times_that_changed_have_not_fired(self, storage: Storage) -> None:
        slot = storage.now() - 1_000
        storage.register_periodic(_APP, [(make_entry(), slot)])
        [due] = storage.due_periodic(_APP)
        storage.fire_periodic(due._replace(fired="noted"), [make_job()], slot + _MINUTE)

        kept = storage.register_periodic(_APP, [(make_entry(), slot)]), storage.periodic()[0].fired
        storage.register_periodic(_APP, [(make_entry(cron="0 * * * *"), slot)])

        assert kept == ([], "noted")
        assert storage.periodic()[0].fired == ""
