"""What a claim is, who may have one, and that no other worker ever gets the same."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from taskito_core.job import Claim, JobStatus
from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import (
    claim,
    complete,
    enqueue_and_claim,
    make_job,
    make_worker,
    new_token,
    new_token_base,
    release,
    retry,
    want,
)


class Claiming(ConformanceBase):
    def test_a_claim_carries_all_that_running_the_job_needs(self, storage: Storage, worker: str) -> None:
        job = make_job(max_retries=7, timeout=2.5, metadata='{"a": 1}', payload=b"\0\xff")
        storage.enqueue([job])
        token = new_token()

        answer = storage.exchange(worker, [], want(1, token=token))

        assert answer.claims == [
            Claim(
                id=job.id,
                token=token,
                task_name="job",
                queue="default",
                payload=b"\0\xff",
                retry_count=0,
                crashes=0,
                interruptions=0,
                max_retries=7,
                timeout=2.5,
                metadata='{"a": 1}',
                claimed_at=answer.claims[0].claimed_at,
                due_at=storage.get([job.id])[0].created_at,
            )
        ]

    def test_a_claim_says_since_when_the_job_was_due(self, storage: Storage, worker: str) -> None:
        now = storage.now()
        later, earlier = make_job(scheduled_at=now + 60_000), make_job(scheduled_at=now - 60_000)
        storage.enqueue([later, earlier])
        created_at = storage.get([earlier.id])[0].created_at

        storage.clock_shift = 120_000
        claims = {claimed.id: claimed for claimed in claim(storage, worker, 2)}

        assert claims[later.id].due_at == now + 60_000
        # No worker was late before the job existed.
        assert claims[earlier.id].due_at == created_at

    def test_a_retry_is_due_when_its_delay_is_over(self, storage: Storage, worker: str) -> None:
        first = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [retry(first, delay=60.0)], None)
        due_at = storage.get([first.id])[0].scheduled_at

        storage.clock_shift = 90_000
        [second] = claim(storage, worker)

        assert second.due_at == due_at > first.due_at

    def test_a_claimed_job_is_running_under_its_claimers_name(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)

        [job] = storage.get([claimed.id])

        assert job.status is JobStatus.RUNNING
        assert (job.worker, job.token, job.claimed_at) == (worker, claimed.token, claimed.claimed_at)
        assert job.created_at <= claimed.claimed_at <= storage.now()
        assert job.started_at is None

    def test_every_claim_of_one_call_carries_the_token_of_the_want(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(3)])
        token = new_token()

        claims = claim(storage, worker, 3, token=token)

        assert {c.token for c in claims} == {token}
        assert {job.token for job in storage.get([c.id for c in claims])} == {token}

    def test_a_worker_that_never_registered_gets_nothing(self, storage: Storage) -> None:
        job = make_job()
        storage.enqueue([job])

        answer = storage.exchange("nobody", [], want(1))

        assert (answer.alive, answer.claims) == (False, [])
        assert storage.get([job.id])[0].status is JobStatus.PENDING

    def test_a_worker_declared_dead_gets_nothing(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job()])
        storage.rescue({worker: 0})

        answer = storage.exchange(worker, [], want(1))

        assert (answer.alive, answer.claims) == (False, [])

    def test_a_worker_that_took_its_leave_gets_nothing(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job()])
        storage.unregister(worker)

        answer = storage.exchange(worker, [], want(1))

        assert (answer.alive, answer.claims) == (False, [])

    def test_wanting_nothing_claims_nothing(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job()])

        answer = storage.exchange(worker, [], None)

        assert (answer.alive, answer.claims, answer.recorded) == (True, [], frozenset())

    def test_settling_comes_before_claiming(self, storage: Storage, worker: str) -> None:
        stale = enqueue_and_claim(storage, worker)

        [fresh] = storage.exchange(worker, [release(stale)], want(1)).claims

        assert fresh.id == stale.id
        assert fresh.token != stale.token

    def test_a_retry_without_delay_may_be_claimed_by_the_same_call(
        self, storage: Storage, worker: str
    ) -> None:
        stale = enqueue_and_claim(storage, worker)

        [fresh] = storage.exchange(worker, [retry(stale, delay=0.0)], want(1)).claims

        assert (fresh.id, fresh.retry_count) == (stale.id, 1)

    def test_what_one_worker_claimed_another_does_not_get(
        self, storage: Storage, connect: Connect, worker: str, other: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(6)])

        mine = claim(storage, worker, 4)
        theirs = claim(connect(), other, 4)

        assert (len(mine), len(theirs)) == (4, 2)
        assert {c.id for c in mine}.isdisjoint(c.id for c in theirs)

    def test_next_due_is_the_earliest_wanted_moment(self, storage: Storage, worker: str) -> None:
        now = storage.now()
        storage.enqueue(
            [
                make_job(scheduled_at=now + 90_000, priority=9),
                make_job(scheduled_at=now + 60_000),
                make_job(scheduled_at=now + 30_000, queue="elsewhere"),
            ]
        )

        assert storage.exchange(worker, [], want(1)).next_due == now + 60_000
        assert storage.exchange(worker, [], want(1, queues=("default", "elsewhere"))).next_due == now + 30_000

    def test_next_due_counts_a_retry_that_this_call_recorded(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)

        answer = storage.exchange(worker, [retry(claimed, delay=60.0)], want(1))

        [job] = storage.get([claimed.id])
        assert answer.next_due == job.scheduled_at

    def test_nothing_pending_means_no_next_due(self, storage: Storage, worker: str) -> None:
        enqueue_and_claim(storage, worker)

        assert storage.exchange(worker, [], want(1)).next_due is None

    def test_an_exchange_tells_the_time_of_the_store(self, storage: Storage, worker: str) -> None:
        before = storage.now()
        answer = storage.exchange(worker, [], None)

        assert before <= answer.now <= storage.now()

    def test_threads_with_connections_of_their_own_get_each_job_once(
        self, storage: Storage, connect: Connect
    ) -> None:
        jobs = [make_job() for _ in range(400)]
        storage.enqueue(jobs)
        start = threading.Barrier(4)

        with ThreadPoolExecutor(4) as pool:
            drained = [pool.submit(_drain, connect(), start) for _ in range(4)]
            taken = [job_id for share in drained for job_id in share.result()]

        assert sorted(taken) == sorted(job.id for job in jobs)

    def test_threads_that_share_one_connection_get_each_job_once(self, storage: Storage) -> None:
        jobs = [make_job() for _ in range(400)]
        storage.enqueue(jobs)
        start = threading.Barrier(4)

        with ThreadPoolExecutor(4) as pool:
            drained = [pool.submit(_drain, storage, start) for _ in range(4)]
            taken = [job_id for share in drained for job_id in share.result()]

        assert sorted(taken) == sorted(job.id for job in jobs)

    def test_processes_get_each_job_once(self, storage: Storage, processes: Actors) -> None:
        jobs = [make_job() for _ in range(600)]
        storage.enqueue(jobs)
        actors = [
            processes.start("drain", worker=f"process-{number}", token=new_token_base(), batch=5)
            for number in range(3)
        ]

        for actor in actors:
            actor.go()
        shares = [actor.hear() for actor in actors]

        assert sorted(job_id for share in shares for job_id in share) == sorted(job.id for job in jobs)
        assert storage.counts().by_queue["default"].complete == 600
        results = {job.id: job.result for job in storage.get([job.id for job in jobs])}
        for number, share in enumerate(shares):
            assert all(results[job_id] == f"process-{number}".encode() for job_id in share)


def _drain(storage: Storage, start: threading.Barrier) -> list[str]:
    """Claim and complete, three at a time, until nothing is left; the ids in the order they came."""
    me = make_worker()
    storage.register(me)
    start.wait()
    taken: list[str] = []
    claims: list[Claim] = []
    while True:
        claims = storage.exchange(me.id, [complete(c) for c in claims], want(3)).claims
        if not claims:
            return taken
        taken += [c.id for c in claims]
