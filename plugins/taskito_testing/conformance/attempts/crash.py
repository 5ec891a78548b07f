"""What SIGKILL may do, and what it may not."""

from __future__ import annotations

import random

from taskito_core.job import JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase, wait_until
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import claim, complete, make_job, new_token_base


class Crash(ConformanceBase):
    def test_jobs_of_a_process_killed_after_its_claim_are_rescued(
        self, storage: Storage, processes: Actors, worker: str
    ) -> None:
        jobs = [make_job() for _ in range(5)]
        storage.enqueue(jobs)
        victim = processes.start("claim_and_hang", worker="victim", token=new_token_base(), limit=3)
        victim.go()
        claimed = victim.hear()
        assert len(claimed) == 3

        victim.kill()

        rows = {job.id: job for job in storage.get([job.id for job in jobs])}
        assert all((rows[i].status, rows[i].worker) == (JobStatus.RUNNING, "victim") for i in claimed)
        assert sorted(storage.rescue({"victim": 0})) == sorted(claimed)
        again = claim(storage, worker, 9)
        assert sorted(c.id for c in again) == sorted(job.id for job in jobs)
        assert all(c.interruptions == (c.id in claimed) for c in again)

    def test_a_process_killed_at_any_moment_loses_and_doubles_nothing(
        self, storage: Storage, processes: Actors, worker: str
    ) -> None:
        jobs = [make_job() for _ in range(3_000)]
        storage.enqueue(jobs)
        acknowledged: set[str] = set()
        for number in range(4):
            victim = processes.start(
                "work_for_ever", worker=f"victim-{number}", token=new_token_base(), batch=7
            )
            victim.go()
            for _ in range(random.Random(number).randrange(5, 40)):
                acknowledged.update(victim.hear())
            victim.kill()
            for said in victim.hear_rest():
                acknowledged.update(said)
            storage.rescue({f"victim-{number}": 0})

        done = _complete(storage)
        assert acknowledged <= done

        def all_are_complete() -> bool:
            # What a victim had sent may be carried out after its death, and after the rescue looked.
            storage.rescue({})
            while claims := claim(storage, worker, 500):
                assert done.isdisjoint(c.id for c in claims)
                storage.exchange(worker, [complete(c) for c in claims], None)
            return _complete(storage) == {job.id for job in jobs}

        wait_until(all_are_complete)

    def test_a_producer_killed_at_any_moment_leaves_whole_batches(
        self, storage: Storage, processes: Actors
    ) -> None:
        for number in range(3):
            victim = processes.start("enqueue_for_ever", prefix=f"victim-{number}", batch=20)
            victim.go()
            acknowledged = [victim.hear() for _ in range(random.Random(number).randrange(3, 25))]
            victim.kill()
            acknowledged += victim.hear_rest()

            stored = [job_id for job_id in _ids(storage) if job_id.startswith(f"victim-{number}-")]
            batches = {job_id.rsplit("-", 1)[0] for job_id in stored}
            assert len(stored) == 20 * len(batches)
            assert len(acknowledged) <= len(batches) <= len(acknowledged) + 1

    def test_the_store_goes_on_beside_a_process_killed_in_its_sleep(
        self, storage: Storage, processes: Actors, worker: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(2)])
        victim = processes.start("claim_and_hang", worker="victim", token=new_token_base(), limit=1)
        victim.go()
        victim.hear()
        victim.kill()

        [claimed] = claim(storage, worker)
        storage.exchange(worker, [complete(claimed)], None)

        wait_until(lambda: storage.get([claimed.id])[0].status is JobStatus.COMPLETE)


def _complete(storage: Storage) -> set[str]:
    return _ids(storage, JobStatus.COMPLETE)


def _ids(storage: Storage, *statuses: JobStatus) -> set[str]:
    """The ids of all jobs in one of these states, page by page."""
    ids: set[str] = set()
    cursor = None
    while True:
        page = storage.list_jobs(JobFilter(statuses=statuses), 1_000, cursor)
        ids.update(job.id for job in page.jobs)
        cursor = page.cursor
        if cursor is None:
            return ids
