"""Concurrency keys: of the jobs of one key, never more than its slots are running or claimable."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from taskito_core.job import Claim, JobStatus, NewJob, Outcome
from taskito_core.storage import Storage
from taskito_core.storage_client import Gate, JobFilter
from taskito_testing.conformance.base import PATIENCE, ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import (
    cancelled,
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    new_token_base,
    release,
    retry,
    status_of,
    want,
)


class Keys(ConformanceBase):
    def test_no_more_jobs_of_a_key_are_claimed_than_it_has_slots(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        storage.enqueue([_keyed(2) for _ in range(5)])

        assert len(claim(storage, worker, 9)) == 2
        assert claim(storage, other, 9) == []

    def test_jobs_without_a_key_and_of_other_keys_are_not_kept_back(
        self, storage: Storage, worker: str
    ) -> None:
        jobs = [_keyed(1), _keyed(1, "other"), make_job()]
        storage.enqueue([*jobs, _keyed(1, priority=-1)])

        assert sorted(c.id for c in claim(storage, worker, 9)) == sorted(job.id for job in jobs)

    @pytest.mark.parametrize("end", [complete, dead, cancelled])
    def test_a_job_that_finishes_lets_the_next_one_in(self, storage: Storage, worker: str, end: Any) -> None:
        storage.enqueue([_keyed(1) for _ in range(2)])
        [first] = claim(storage, worker, 9)

        [second] = storage.exchange(worker, [end(first)], want(9)).claims

        assert second.id != first.id

    def test_who_only_settles_is_told_that_the_next_one_was_let_in(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([_keyed(1) for _ in range(2)])
        [first] = claim(storage, worker, 9)

        assert storage.exchange(worker, [complete(first)], None).opened
        [second] = claim(storage, worker, 9)
        assert not storage.exchange(worker, [complete(second)], None).opened

    @pytest.mark.parametrize("outcome", [release, retry], ids=["released", "retried"])
    def test_a_job_that_is_due_again_at_once_keeps_its_place(
        self, storage: Storage, worker: str, outcome: Any
    ) -> None:
        storage.enqueue([_keyed(1), _keyed(1, priority=9)])
        [first] = claim(storage, worker, 9)
        storage.enqueue([_keyed(1, priority=99)])

        [again] = storage.exchange(worker, [outcome(first)], want(9)).claims

        assert again.id == first.id

    def test_a_rescued_job_keeps_its_place(self, storage: Storage, worker: str, other: str) -> None:
        storage.enqueue([_keyed(1)])
        [first] = claim(storage, worker)
        storage.enqueue([_keyed(1, priority=9)])

        storage.rescue({worker: 0})

        assert [c.id for c in claim(storage, other, 9)] == [first.id]

    @pytest.mark.parametrize("outcome", [retry, release], ids=["retry", "release"])
    def test_a_job_that_is_due_later_gives_up_its_slot_and_waits_for_one_again(
        self, storage: Storage, worker: str, outcome: Any
    ) -> None:
        storage.enqueue([_keyed(1)])
        [first] = claim(storage, worker)
        storage.enqueue([_keyed(1)])

        [second] = storage.exchange(worker, [outcome(first, delay=60.0)], want(9)).claims
        assert second.id != first.id
        assert storage.get([first.id])[0].gate == Gate.LATER

        storage.clock_shift = 61_000
        assert claim(storage, worker) == []
        [third] = storage.exchange(worker, [complete(second)], want(9)).claims
        assert third.id == first.id

    def test_who_is_let_in_is_decided_by_priority_then_due_time_then_id(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([_keyed(1)])
        [running] = claim(storage, worker)
        now = storage.now()
        jobs = [
            _keyed(1, id="c", priority=0, scheduled_at=now - 5_000),
            _keyed(1, id="b", priority=0, scheduled_at=now - 1_000),
            _keyed(1, id="d", priority=7, scheduled_at=now - 1_000),
            _keyed(1, id="a", priority=0, scheduled_at=now - 1_000),
        ]
        storage.enqueue(jobs)

        ran = []
        while claims := storage.exchange(worker, [complete(running)], want(9)).claims:
            [running] = claims
            ran.append(running.id)

        assert ran == ["d", "c", "a", "b"]

    def test_of_one_batch_the_best_are_let_in_whatever_their_order(
        self, storage: Storage, worker: str
    ) -> None:
        low, high = _keyed(1, priority=1), _keyed(1, priority=2)
        storage.enqueue([low, high])

        assert [c.id for c in claim(storage, worker, 9)] == [high.id]
        assert storage.get([low.id])[0].gate == Gate.KEY

    def test_a_job_of_the_future_takes_no_place(self, storage: Storage, worker: str) -> None:
        later, now = _keyed(1, delay=60.0), _keyed(1)
        storage.enqueue([later])
        storage.enqueue([now])

        assert storage.get([later.id])[0].gate == Gate.LATER
        assert [c.id for c in claim(storage, worker, 9)] == [now.id]

    def test_a_sweep_opens_what_has_fallen_due_and_tells_when_it_will(
        self, storage: Storage, worker: str
    ) -> None:
        soon, late = _keyed(2, delay=60.0), _keyed(2, delay=600.0)
        storage.enqueue([late, soon])
        due = {job.id: job.scheduled_at for job in storage.get([soon.id, late.id])}

        assert storage.exchange(worker, [], want(1)).sweep_at == due[soon.id]
        assert storage.sweep(9).next_at == due[soon.id]
        storage.clock_shift = 61_000
        swept = storage.sweep(9)

        assert swept.opened == [soon.id]
        assert swept.next_at == due[late.id]
        assert [c.id for c in claim(storage, worker, 9)] == [soon.id]

    def test_a_sweep_opens_no_more_than_there_are_slots(self, storage: Storage, worker: str) -> None:
        jobs = [_keyed(2, delay=60.0) for _ in range(4)]
        storage.enqueue(jobs)
        storage.clock_shift = 61_000

        swept = storage.sweep(9)

        assert len(swept.opened) == 2
        assert swept.next_at is None, "what waits for a slot is nothing to sweep for"
        assert sorted(c.id for c in claim(storage, worker, 9)) == sorted(swept.opened)
        assert {job.gate for job in storage.get([job.id for job in jobs])} == {None, Gate.KEY}

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_sweep_wakes_who_waits_for_what_it_opened(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        storage.enqueue([_keyed(1, delay=60.0)])
        wakeups = storage.listen(worker, ["default"])
        assert storage.exchange(worker, [], want(1)).claims == []
        sweeper = connect()
        storage.clock_shift = sweeper.clock_shift = 61_000

        sweeper.sweep(9)

        assert wakeups.wait(PATIENCE / 2)
        assert len(claim(storage, worker)) == 1
        wakeups.close()

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_keyed_job_of_the_future_wakes_too_because_sweep_at_has_changed(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        wakeups = storage.listen(worker, ["default"])
        assert storage.exchange(worker, [], want(1)).sweep_at is None

        connect().enqueue([_keyed(1, delay=60.0)])

        assert wakeups.wait(PATIENCE / 2)
        assert storage.exchange(worker, [], want(1)).sweep_at is not None
        wakeups.close()

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_slot_given_up_wakes_another_worker(
        self, storage: Storage, connect: Connect, worker: str, other: str
    ) -> None:
        storage.enqueue([_keyed(1), _keyed(1)])
        [first] = claim(storage, worker)
        wakeups = storage.listen(other, ["default"])
        assert storage.exchange(other, [], want(1)).claims == []

        connect().exchange(worker, [complete(first)], None)

        assert wakeups.wait(PATIENCE / 2)
        assert len(claim(storage, other)) == 1
        wakeups.close()

    def test_excess_is_dropped_if_that_is_wished(self, storage: Storage, worker: str) -> None:
        kept, dropped = _keyed(1, drop_excess=True), _keyed(1, drop_excess=True)
        storage.enqueue([kept])

        [receipt] = storage.enqueue([dropped])

        assert (receipt.id, receipt.inserted) == (dropped.id, True)
        [job] = storage.get([dropped.id])
        assert job.status is JobStatus.CANCELLED
        assert job.error == "dropped: all 1 places of 'key' are taken"
        assert storage.await_finished(dropped.id, 0.0)
        assert [c.id for c in claim(storage, worker, 9)] == [kept.id]

    def test_excess_is_dropped_although_it_had_a_parent_if_that_has_finished(
        self, storage: Storage, worker: str
    ) -> None:
        parent = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(parent)], None)
        storage.enqueue([_keyed(1)])
        dropped = _keyed(1, drop_excess=True, parents=(parent.id,))

        storage.enqueue([dropped])

        assert status_of(storage, dropped.id) is JobStatus.CANCELLED

    def test_excess_that_waits_for_a_parent_is_not_dropped(self, storage: Storage, worker: str) -> None:
        parent = enqueue_and_claim(storage, worker)
        storage.enqueue([_keyed(1)])
        waiting = _keyed(1, drop_excess=True, parents=(parent.id,))

        storage.enqueue([waiting])

        assert status_of(storage, waiting.id) is JobStatus.PENDING

    def test_excess_inside_one_batch_is_dropped_too(self, storage: Storage, worker: str) -> None:
        jobs = [_keyed(2, drop_excess=True) for _ in range(5)]
        storage.enqueue(jobs)

        statuses = [status_of(storage, job.id) for job in jobs]

        assert statuses.count(JobStatus.CANCELLED) == 3
        assert len(claim(storage, worker, 9)) == 2

    def test_a_dropped_job_is_not_there_to_take_the_next_place(self, storage: Storage, worker: str) -> None:
        storage.enqueue([_keyed(1)])
        storage.enqueue([_keyed(1, drop_excess=True)])
        [first] = claim(storage, worker)

        assert storage.exchange(worker, [complete(first)], want(9)).claims == []

    def test_a_job_that_is_due_later_is_not_dropped(self, storage: Storage) -> None:
        later = _keyed(1, delay=60.0, drop_excess=True)
        storage.enqueue([_keyed(1)])
        storage.enqueue([later])

        assert status_of(storage, later.id) is JobStatus.PENDING

    def test_cancelling_gives_up_a_place(self, storage: Storage, worker: str) -> None:
        first, second = _keyed(1), _keyed(1)
        storage.enqueue([first])
        storage.enqueue([second])

        storage.cancel([first.id], "no")

        assert [c.id for c in claim(storage, worker, 9)] == [second.id]

    def test_an_expired_job_gives_up_its_place(self, storage: Storage, worker: str) -> None:
        first, second = _keyed(1, expires=1.0), _keyed(1)
        storage.enqueue([first])
        storage.enqueue([second])
        storage.clock_shift = 2_000

        swept = storage.sweep(9)

        assert (swept.expired, swept.opened) == ([first.id], [second.id])
        assert [c.id for c in claim(storage, worker, 9)] == [second.id]

    def test_a_child_goes_from_its_parents_to_its_key(self, storage: Storage, worker: str) -> None:
        parent = make_job()
        holder, child = _keyed(1), _keyed(1, parents=(parent.id,), priority=9)
        storage.enqueue([parent, holder, child])
        claims = {c.id: c for c in claim(storage, worker, 9)}
        assert sorted(claims) == sorted([parent.id, holder.id])

        assert storage.exchange(worker, [complete(claims[parent.id])], want(9)).claims == []
        assert storage.get([child.id])[0].gate == Gate.KEY
        answer = storage.exchange(worker, [complete(claims[holder.id])], want(9))

        assert [c.id for c in answer.claims] == [child.id]

    @pytest.mark.parametrize("seed", range(6))
    def test_random_lives_never_take_more_slots_than_there_are(
        self, storage: Storage, worker: str, seed: int
    ) -> None:
        rng = random.Random(seed)
        slots = {"a": 1, "b": 3}
        held: list[Claim] = []
        ends: list[Callable[[Claim], Outcome]] = [complete, dead, release, retry]
        ends += [lambda c: retry(c, 60.0), lambda c: release(c, delay=60.0)]
        for _ in range(30):
            batch = [
                _keyed(slots[key], key, priority=rng.choice([0, 5]), delay=rng.choice([0.0, 0.0, 60.0]))
                for key in rng.choices("ab", k=rng.randrange(4))
            ]
            storage.enqueue(batch)
            ending = [held.pop(rng.randrange(len(held))) for _ in range(rng.randrange(len(held) + 1))]
            outcomes = [rng.choice(ends)(c) for c in ending]
            held += storage.exchange(worker, outcomes, want(rng.randrange(4))).claims
            if rng.random() < 0.3:
                storage.clock_shift += 61_000
                storage.sweep(100)
            for key, limit in slots.items():
                assert len(_holders(storage, key)) <= limit

        # And all of them run in the end: no slot was lost.
        storage.clock_shift += 61_000
        while storage.sweep(100).opened or held or _live(storage):
            held = storage.exchange(worker, [complete(c) for c in held], want(9)).claims
            assert held or not _live(storage), "jobs are left that cannot be claimed"

    def test_several_processes_never_take_more_slots_than_there_are(
        self, storage: Storage, processes: Actors
    ) -> None:
        total = 80
        batches = [
            [{"id": f"job-{n:03}", "concurrency_key": "key", "concurrency": 2, "priority": n % 3}]
            for n in range(total)
        ]
        actors = [processes.start("enqueue_batches", batches=batches[half::2]) for half in (0, 1)]
        actors += [
            processes.start("work_until", worker=f"worker-{n}", token=new_token_base(), total=total)
            for n in range(3)
        ]
        for actor in actors:
            actor.go()

        most = 0
        give_up = time.monotonic() + 2 * PATIENCE
        while storage.counts(exact=True).by_queue.get("default") is None or _live(storage, total):
            most = max(most, len(_holders(storage, "key")))
            assert time.monotonic() < give_up, "jobs are stuck"

        assert [actor.hear() for actor in actors[2:]] == ["done"] * 3
        assert 1 <= most <= 2


def _keyed(concurrency: int, key: str = "key", **fields: Any) -> NewJob:
    return make_job(concurrency_key=key, concurrency=concurrency, **fields)


def _holders(storage: Storage, key: str) -> Sequence[str]:
    """Jobs of the key that are running or claimable, all seen at one moment."""
    live = JobFilter(statuses=(JobStatus.PENDING, JobStatus.RUNNING))
    jobs = storage.list_jobs(live, 1_000, None).jobs
    return [job.id for job in jobs if job.concurrency_key == key and job.gate is None]


def _live(storage: Storage, expected: int | None = None) -> bool:
    """Whether jobs are left to run; with ``expected``, also whether some are still to come."""
    counts = storage.counts(exact=True).by_queue.values()
    if expected is not None:
        return sum(count.complete for count in counts) < expected
    return any(count.pending or count.running for count in counts)
