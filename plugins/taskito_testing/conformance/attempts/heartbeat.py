"""Workers: how they come, beat, compare notes, and take their leave."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskito_core.errors import StorageError
from taskito_core.job import JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_worker import Peer, WorkerInfo, WorkerStatus
from taskito_testing.conformance.base import ConformanceBase, NewWorker
from taskito_testing.factories import (
    claim,
    complete,
    enqueue_and_claim,
    make_job,
    make_worker,
    new_token,
    release,
)


class Heartbeat(ConformanceBase):
    def test_a_registered_worker_is_remembered_as_it_said(self, storage: Storage) -> None:
        said = make_worker(
            host="büro-1",
            pid=7,
            app="app:q",
            queues=("mail", "default"),
            tasks=("a.b", "c"),
            procs=8,
            version="9",
        )
        before = storage.now()

        storage.register(said)

        [info] = storage.workers()
        assert _said(info) == _said(said)
        assert (info.beat, info.status) == (0, WorkerStatus.ALIVE)
        assert before <= info.started_at <= storage.now()
        assert before <= info.last_seen <= storage.now()

    def test_an_id_that_is_taken_cannot_be_registered(self, storage: Storage, worker: str) -> None:
        with pytest.raises(StorageError):
            storage.register(make_worker(id=worker))

        storage.unregister(worker)
        with pytest.raises(StorageError):
            storage.register(make_worker(id=worker))
        assert _info(storage, worker).status is WorkerStatus.STOPPED

    def test_each_heartbeat_raises_the_beat_by_one(self, storage: Storage, worker: str, other: str) -> None:
        for _ in range(3):
            assert storage.heartbeat(worker, []).alive

        assert (_info(storage, worker).beat, _info(storage, other).beat) == (3, 0)

    def test_a_heartbeat_of_another_thread_disturbs_no_exchange(self, storage: Storage, worker: str) -> None:
        """A worker whose exchange is slow beats beside it."""
        jobs = [make_job() for _ in range(40)]
        storage.enqueue(jobs)
        going = threading.Event()

        def beat() -> int:
            beats = 0
            while not going.wait(0.001):
                beats += storage.heartbeat(worker, []).alive
            return beats

        with ThreadPoolExecutor(1) as thread:
            beating = thread.submit(beat)
            try:
                for _ in jobs:
                    claims = claim(storage, worker)
                    assert (
                        len(storage.exchange(worker, [complete(each) for each in claims], None).recorded) == 1
                    )
            finally:
                going.set()
            beats = beating.result(30)

        assert _info(storage, worker).beat == beats
        assert {job.status for job in storage.get([job.id for job in jobs])} == {JobStatus.COMPLETE}

    def test_a_heartbeat_is_stamped_with_the_clock_of_the_store(self, storage: Storage, worker: str) -> None:
        registered = _info(storage, worker)
        storage.clock_shift = 5_000

        beat = storage.heartbeat(worker, [])

        info = _info(storage, worker)
        assert registered.last_seen + 5_000 <= info.last_seen <= storage.now()
        assert info.started_at == registered.started_at
        assert info.last_seen - 1_000 <= beat.now <= storage.now()

    def test_a_heartbeat_of_an_unknown_worker_says_so(self, storage: Storage) -> None:
        assert not storage.heartbeat("nobody", []).alive
        assert storage.workers() == []

    def test_peers_are_the_others_that_are_alive(self, storage: Storage, new_worker: NewWorker) -> None:
        me, friend = new_worker(), new_worker(host="host-9")
        lost, gone = new_worker(), new_worker()
        storage.heartbeat(friend, [])
        storage.rescue({lost: 0})
        storage.unregister(gone)

        assert storage.heartbeat(me, []).peers == [Peer(friend, 1, "host-9")]

    def test_agreement_leaves_nothing_unknown(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(3)])
        claims = claim(storage, worker, 3)

        beat = storage.heartbeat(worker, [(c.id, c.token) for c in claims])

        assert (beat.unknown_to_me, beat.unknown_to_store) == ([], frozenset())

    def test_a_claim_whose_answer_was_lost_shows_up_as_unknown_to_me(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(3)])
        known, lost = claim(storage, worker, 2)
        claim(storage, other, 1)

        beat = storage.heartbeat(worker, [(known.id, known.token)])

        assert beat.unknown_to_me == [(lost.id, lost.token)]
        assert beat.unknown_to_store == frozenset()

    def test_what_is_unknown_to_me_can_be_released_with_the_token_given(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        [(job_id, token)] = storage.heartbeat(worker, []).unknown_to_me

        answer = storage.exchange(worker, [release(claimed._replace(id=job_id, token=token))], None)

        assert answer.recorded == {claimed.id}

    def test_jobs_that_are_no_longer_mine_show_up_as_unknown_to_store(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(3)])
        kept, done = claim(storage, worker, 2)
        [theirs] = claim(storage, other, 1)
        storage.exchange(worker, [complete(done)], None)

        named = [(c.id, c.token) for c in (kept, done, theirs)] + [("nobody", new_token())]
        beat = storage.heartbeat(worker, named)

        assert beat.unknown_to_store == {done.id, theirs.id, "nobody"}
        assert beat.unknown_to_me == []

    def test_a_pair_with_an_old_token_is_unknown_on_both_sides(self, storage: Storage, worker: str) -> None:
        stale = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [release(stale)], None)
        [fresh] = claim(storage, worker)

        beat = storage.heartbeat(worker, [(stale.id, stale.token)])

        assert beat.unknown_to_store == {stale.id}
        assert beat.unknown_to_me == [(fresh.id, fresh.token)]

    def test_a_worker_declared_dead_runs_nothing_any_more(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})

        beat = storage.heartbeat(worker, [(claimed.id, claimed.token)])

        assert (beat.alive, beat.unknown_to_store) == (False, frozenset({claimed.id}))

    def test_a_worker_that_takes_its_leave_hands_back_its_jobs_uncharged(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)

        storage.unregister(worker)

        [job] = storage.get([claimed.id])
        assert (job.status, job.token) == (JobStatus.PENDING, None)
        assert (job.retry_count, job.crashes, job.interruptions) == (0, 0, 0)
        assert storage.errors(claimed.id) == []
        assert _info(storage, worker).status is WorkerStatus.STOPPED
        assert [c.id for c in claim(storage, other)] == [claimed.id]

    def test_taking_ones_leave_touches_nobody_elses_jobs(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        claimed = enqueue_and_claim(storage, other)

        storage.unregister(worker)

        assert storage.get([claimed.id])[0].status is JobStatus.RUNNING

    def test_taking_ones_leave_twice_or_unknown_is_no_error(self, storage: Storage, worker: str) -> None:
        storage.unregister(worker)
        storage.unregister(worker)
        storage.unregister("nobody")

        assert [info.status for info in storage.workers()] == [WorkerStatus.STOPPED]

    def test_workers_are_listed_alive_first_then_latest_seen_first(
        self, storage: Storage, new_worker: NewWorker
    ) -> None:
        first, second, stopped_early, stopped_late = (new_worker() for _ in range(4))
        for shift, worker in enumerate([stopped_early, first, second, stopped_late], start=1):
            storage.clock_shift = shift * 10_000
            storage.heartbeat(worker, [])
        storage.unregister(stopped_early)
        storage.unregister(stopped_late)

        listed = [info.id for info in storage.workers()]

        assert listed[:2] == [second, first]
        assert set(listed[2:]) == {stopped_early, stopped_late}


def _info(storage: Storage, worker: str) -> WorkerInfo:
    [info] = [info for info in storage.workers() if info.id == worker]
    return info


def _said(info: WorkerInfo) -> tuple[object, ...]:
    """The fields a worker says about itself; the others are the store's."""
    return info.id, info.host, info.pid, info.app, info.queues, info.tasks, info.procs, info.version
