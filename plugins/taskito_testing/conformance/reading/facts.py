"""Why a job does not run: each reason shows while it holds, and without any the job is claimed."""

from __future__ import annotations

import random

import pytest

from taskito_core.job import JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_client import Facts, Gate
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, retry


class Knowing(ConformanceBase):
    def test_nothing_is_known_of_a_job_that_is_not_stored(self, storage: Storage) -> None:
        assert storage.facts("unknown") is None

    def test_a_job_that_nothing_keeps_back(self, storage: Storage) -> None:
        job = make_job()
        storage.enqueue([job])

        facts = _facts(storage, job.id)

        assert facts.job == storage.get([job.id])[0]
        assert abs(facts.now - storage.now()) < 30_000
        assert facts[2:] == ("", (), False, None, (), 0)

    def test_parents_show_until_they_have_finished(self, storage: Storage, worker: str) -> None:
        running = enqueue_and_claim(storage, worker)
        pending = make_job(delay=600.0)
        child = make_job(parents=(running.id, pending.id))
        storage.enqueue([pending, child])

        before = set(_facts(storage, child.id).parents)
        storage.exchange(worker, [complete(running)], None)

        assert before == {(running.id, JobStatus.RUNNING), (pending.id, JobStatus.PENDING)}
        assert _facts(storage, child.id).parents == ((pending.id, JobStatus.PENDING),)

    def test_a_pause_of_its_queue_shows(self, storage: Storage) -> None:
        job = make_job()
        storage.enqueue([job])

        storage.pause("elsewhere")
        assert not _facts(storage, job.id).paused
        storage.pause("default")
        assert _facts(storage, job.id).paused
        storage.resume("default")
        assert not _facts(storage, job.id).paused

    def test_slots_and_their_holders_show(self, storage: Storage, worker: str) -> None:
        holders = [make_job(concurrency_key="key", concurrency=2, priority=9) for _ in range(2)]
        waiting = make_job(concurrency_key="key", concurrency=2)
        storage.enqueue([*holders, waiting])
        claims = claim(storage, worker, 1)

        facts = _facts(storage, waiting.id)
        assert (facts.concurrency, facts.job.gate) == (2, Gate.KEY)
        assert sorted(facts.holders) == sorted(job.id for job in holders)
        assert len(_facts(storage, holders[0].id).holders) == 1

        storage.exchange(worker, [complete(claims[0])], None)
        facts = _facts(storage, waiting.id)
        assert (len(facts.holders), facts.job.gate) == (1, None)

    def test_the_lane_shows(self, storage: Storage) -> None:
        job = make_job(lane="mail")
        storage.enqueue([job])

        assert _facts(storage, job.id).lane == "mail"

    def test_what_comes_before_it_in_its_queue_is_counted(self, storage: Storage, worker: str) -> None:
        running = enqueue_and_claim(storage, worker)
        now = storage.now()
        job = make_job(id="m", priority=5, scheduled_at=now - 1_000)
        storage.enqueue(
            [
                job,
                make_job(priority=9),
                make_job(priority=5, scheduled_at=now - 2_000),
                make_job(id="a", priority=5, scheduled_at=now - 1_000),
                make_job(id="z", priority=5, scheduled_at=now - 1_000),
                make_job(priority=1, scheduled_at=now - 9_000),
                make_job(priority=9, delay=600.0),
                make_job(priority=9, queue="elsewhere"),
                make_job(priority=9, parents=(running.id,)),
            ]
        )

        assert _facts(storage, "m").ahead == 3

    def test_what_comes_before_it_is_counted_up_to_a_bound(self, storage: Storage) -> None:
        job = make_job(priority=-1)
        storage.enqueue([make_job() for _ in range(10_005)])
        storage.enqueue([job])

        assert _facts(storage, job.id).ahead == 10_000

    @pytest.mark.parametrize("seed", range(8))
    def test_a_job_is_claimed_exactly_if_the_facts_name_no_reason(
        self, storage: Storage, worker: str, seed: int
    ) -> None:
        rng = random.Random(seed)
        parents = [enqueue_and_claim(storage, worker) for _ in range(4)]
        ids = []
        for _ in range(25):
            key = rng.choice([None, None, "one", "two"])
            job = make_job(
                queue=rng.choice(["default", "default", "mail"]),
                priority=rng.choice([0, 5]),
                delay=rng.choice([0.0, 0.0, 60.0]),
                expires=rng.choice([None, None, 1.0]),
                lane=rng.choice(["", "", "job", "foreign"]),
                parents=tuple(p.id for p in rng.sample(parents, rng.choice([0, 0, 1, 2]))),
                concurrency_key=key,
                concurrency=2 if key else None,
            )
            storage.enqueue([job])
            ids.append(job.id)
        storage.clock_shift = rng.choice([0, 2_000, 61_000])
        if rng.random() < 0.5:
            storage.pause("mail")
        storage.exchange(worker, [complete(parents[0]), retry(parents[1], 60.0), complete(parents[2])], None)
        if rng.random() < 0.5:
            storage.sweep(100)

        free = {job_id for job_id in ids if not _reasons(_facts(storage, job_id))}
        claimed = {c.id for c in claim(storage, worker, 99, queues=("default", "mail"))} & set(ids)

        assert claimed == free


def _facts(storage: Storage, job_id: str) -> Facts:
    facts = storage.facts(job_id)
    assert facts is not None
    return facts


def _reasons(facts: Facts) -> list[str]:
    """Why a worker that knows only the task ``job`` cannot claim it, as ``explain`` would tell."""
    job = facts.job
    slots_taken = facts.concurrency is not None and len(facts.holders) >= facts.concurrency
    reasons = {
        "status": job.status is not JobStatus.PENDING,
        "due": job.scheduled_at > facts.now,
        "expired": job.expires_at is not None and job.expires_at <= facts.now,
        "parents": bool(facts.parents),
        "paused": facts.paused,
        "key": job.gate == Gate.KEY,
        "unseen": job.gate == Gate.LATER,
        "lane": facts.lane not in ("", "job"),
    }
    if job.status is JobStatus.PENDING:
        assert (job.gate == Gate.PARENTS) == bool(facts.parents)
        if job.gate == Gate.KEY and not reasons["expired"]:  # what has expired is not let in
            assert slots_taken
        if job.gate is None:
            assert not slots_taken
    return [reason for reason, holds in reasons.items() if holds]
