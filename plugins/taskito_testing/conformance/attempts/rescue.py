"""What happens to the jobs of a worker that is gone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from taskito_core.job import ErrorKind, JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_worker import WorkerStatus
from taskito_testing.conformance.base import ConformanceBase, Connect, NewWorker
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, retry


class Rescue(ConformanceBase):
    def test_a_worker_whose_beat_stood_still_is_dead_and_its_jobs_are_pending_again(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        beat = storage.heartbeat(worker, [(claimed.id, claimed.token)])
        assert beat.alive

        rescued = storage.rescue({worker: 1})

        [job] = storage.get([claimed.id])
        assert rescued == [claimed.id]
        assert (job.status, job.token) == (JobStatus.PENDING, None)
        assert (job.interruptions, job.retry_count, job.crashes) == (1, 0, 0)
        assert _status(storage, worker) is WorkerStatus.DEAD

    def test_a_worker_whose_beat_moved_is_left_alone(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.heartbeat(worker, [(claimed.id, claimed.token)])

        assert storage.rescue({worker: 0}) == []

        assert storage.get([claimed.id])[0].status is JobStatus.RUNNING
        assert _status(storage, worker) is WorkerStatus.ALIVE

    def test_a_rescue_is_written_down_with_the_name_of_the_worker(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)

        storage.rescue({worker: 0})

        [row] = storage.errors(claimed.id)
        assert (row.job_id, row.token, row.attempt) == (claimed.id, claimed.token, 1)
        assert (row.kind, row.worker) == (ErrorKind.INTERRUPTED, worker)

    def test_an_attempt_after_a_rescue_has_the_next_number(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})
        [again] = claim(storage, other)
        storage.exchange(other, [retry(again)], None)

        assert [row.attempt for row in storage.errors(again.id)] == [1, 2]
        assert again.interruptions == 1

    def test_another_worker_claims_a_rescued_job_at_once(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})

        [again] = claim(storage, other)
        answer = storage.exchange(other, [complete(again, b"second")], None)

        assert again.id == claimed.id
        assert answer.recorded == {claimed.id}
        assert storage.get([claimed.id])[0].result == b"second"

    def test_only_the_jobs_of_the_dead_are_rescued(self, storage: Storage, worker: str, other: str) -> None:
        storage.enqueue([make_job() for _ in range(4)])
        lost = claim(storage, worker, 2)
        kept = claim(storage, other, 2)

        rescued = storage.rescue({worker: 0})

        assert sorted(rescued) == sorted(c.id for c in lost)
        assert {job.status for job in storage.get([c.id for c in kept])} == {JobStatus.RUNNING}

    def test_several_suspects_are_judged_one_by_one(self, storage: Storage, worker: str, other: str) -> None:
        storage.heartbeat(other, [])

        storage.rescue({worker: 0, other: 0, "nobody": 5})

        assert (_status(storage, worker), _status(storage, other)) == (WorkerStatus.DEAD, WorkerStatus.ALIVE)

    def test_no_suspects_and_nobody_lost_means_nothing_to_do(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)

        assert storage.rescue({}) == []

        assert storage.get([claimed.id])[0].status is JobStatus.RUNNING

    def test_rescuing_again_does_nothing(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.rescue({worker: 0})

        assert storage.rescue({worker: 0}) == []

        assert storage.get([claimed.id])[0].interruptions == 1
        assert len(storage.errors(claimed.id)) == 1

    def test_finished_jobs_of_a_dead_worker_stay_finished(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(claimed)], None)

        assert storage.rescue({worker: 0}) == []
        assert storage.get([claimed.id])[0].status is JobStatus.COMPLETE

    def test_a_worker_declared_dead_learns_it_and_cannot_come_back(
        self, storage: Storage, worker: str
    ) -> None:
        storage.rescue({worker: 0})

        assert not storage.heartbeat(worker, []).alive
        assert not storage.exchange(worker, [], None).alive
        assert not storage.heartbeat(worker, []).alive

    def test_a_successor_under_a_new_id_works_on(self, storage: Storage, new_worker: NewWorker) -> None:
        first = new_worker()
        claimed = enqueue_and_claim(storage, first)
        storage.rescue({first: 0})

        [again] = claim(storage, new_worker())

        assert again.id == claimed.id

    def test_two_rescuers_at_once_do_it_once(self, storage: Storage, connect: Connect, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(60)])
        ids = [c.id for c in claim(storage, worker, 60)]
        start = threading.Barrier(2)

        def rescue() -> list[str]:
            mine = connect()
            start.wait()
            return mine.rescue({worker: 0})

        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(rescue) for _ in range(2)]
            rescued = [job_id for answer in answers for job_id in answer.result()]

        assert sorted(rescued) == sorted(ids)
        assert {job.interruptions for job in storage.get(ids)} == {1}
        assert all(len(storage.errors(job_id)) == 1 for job_id in ids)

    def test_a_rescue_beside_a_settling_worker_loses_and_doubles_nothing(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(40)])
        claims = claim(storage, worker, 40)
        start = threading.Barrier(2)

        def settle() -> set[str]:
            mine = connect()
            start.wait()
            recorded: set[str] = set()
            for c in claims:
                recorded |= mine.exchange(worker, [complete(c)], None).recorded
            return recorded

        def rescue() -> set[str]:
            mine = connect()
            start.wait()
            return set(mine.rescue({worker: 0}))

        with ThreadPoolExecutor(2) as pool:
            settling, rescuing = pool.submit(settle), pool.submit(rescue)
            settled, rescued = settling.result(), rescuing.result()

        assert settled | rescued == {c.id for c in claims}
        assert settled & rescued == set()
        statuses = {job.id: job.status for job in storage.get([c.id for c in claims])}
        assert {i for i, status in statuses.items() if status is JobStatus.COMPLETE} == settled


def _status(storage: Storage, worker: str) -> WorkerStatus:
    [status] = [info.status for info in storage.workers() if info.id == worker]
    return status
