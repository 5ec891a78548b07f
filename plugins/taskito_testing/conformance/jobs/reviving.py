"""What a failed job cancelled, when the job is run again: it comes back, in its place, and is told so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from taskito_core import messages
from taskito_core.job import Claim, JobStatus, NewJob, new_id
from taskito_core.storage import Storage
from taskito_core.storage_client import Edge, Gate, LogFilter
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    cancelled,
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    release,
    status_of,
    want,
)

_CALLS = pytest.mark.parametrize("call", ["replay", "retry_dead"])


class Reviving(ConformanceBase):
    @_CALLS
    def test_what_a_dead_job_cancelled_runs_after_its_replay(
        self, storage: Storage, worker: str, call: str
    ) -> None:
        head, steps = _chain(storage, worker, 3)
        storage.exchange(worker, [dead(head)], None)
        assert [status_of(storage, step.id) for step in steps] == [JobStatus.CANCELLED] * 3

        getattr(storage, call)(head.id, "again")

        assert [status_of(storage, step.id) for step in steps] == [JobStatus.PENDING] * 3
        ran = _run_all(storage, worker)
        assert ran == ["again", *(step.id for step in steps)]
        assert status_of(storage, head.id) is JobStatus.DEAD

    def test_a_revived_job_is_as_it_was_before_it_was_cancelled(self, storage: Storage, worker: str) -> None:
        head, [step] = _chain(storage, worker, 1, result_ttl=60.0, priority=3, tags=("x",))
        [before] = storage.get([step.id])
        storage.exchange(worker, [dead(head)], None)
        storage.clock_shift = 30_000

        storage.retry_dead(head.id, "again")

        assert storage.get([step.id]) == [before]
        assert before.gate == Gate.PARENTS
        storage.clock_shift = 120_000
        assert storage.prune(9).jobs == 0

    def test_the_edge_leads_to_the_replay_and_keeps_whom_it_stands_for(
        self, storage: Storage, worker: str
    ) -> None:
        head, [step] = _chain(storage, worker, 1)
        storage.exchange(worker, [dead(head)], None)
        storage.retry_dead(head.id, "again")
        [again] = claim(storage, worker, 9)
        storage.exchange(worker, [dead(again)], None)
        assert storage.edges([step.id]) == [Edge(step.id, "again", head.id)]

        storage.retry_dead("again", "once more")

        assert storage.edges([step.id]) == [Edge(step.id, "once more", head.id)]
        assert _run_all(storage, worker) == ["once more", step.id]

    def test_its_log_tells_why_it_is_pending_again(self, storage: Storage, worker: str) -> None:
        head, [step] = _chain(storage, worker, 1)
        storage.exchange(worker, [dead(head)], None)
        before = storage.get([step.id])[0].error
        storage.clock_shift = 5_000

        storage.retry_dead(head.id, "again")

        [entry] = storage.logs(LogFilter(job_id=step.id), 9)
        assert entry.message == messages.REVIVED.format(job=head.id, replay="again", error=before)
        assert (entry.task_name, entry.level) == ("job", "info")
        assert 0 <= storage.now() - entry.logged_at < 5_000

    def test_a_replay_of_a_job_that_somebody_cancelled_revives_too(
        self, storage: Storage, worker: str
    ) -> None:
        head, [step] = _chain(storage, worker, 1)
        storage.exchange(worker, [cancelled(head)], None)

        storage.replay(head.id, "again")

        assert _run_all(storage, worker) == ["again", step.id]

    def test_what_was_cancelled_for_another_reason_stays_cancelled(
        self, storage: Storage, worker: str
    ) -> None:
        head = enqueue_and_claim(storage, worker)
        unwanted, late, asked = (make_job(parents=(head.id,), expires=e) for e in (None, 10.0, None))
        storage.enqueue([unwanted, late, asked])
        storage.cancel([unwanted.id], "not wanted")
        storage.clock_shift = 20_000
        storage.sweep(9)
        storage.exchange(worker, [complete(head)], None)
        [running] = claim(storage, worker, 9)
        # What the task itself says looks like it, and is not.
        said = messages.PARENT_FAILED.format(parent=head.id, status="dead")
        storage.exchange(worker, [cancelled(running, said)], None)

        storage.replay(head.id, "again")

        left = [status_of(storage, job.id) for job in (unwanted, late, asked)]
        assert left == [JobStatus.CANCELLED] * 3
        assert _run_all(storage, worker) == ["again"]

    def test_a_job_with_two_failed_parents_waits_for_both_replays(
        self, storage: Storage, worker: str
    ) -> None:
        (first, second), step = _fan_in(storage, worker, 2)
        storage.exchange(worker, [dead(first), dead(second)], None)

        storage.retry_dead(first.id, "first again")

        [job] = storage.get([step.id])
        assert job.status is JobStatus.CANCELLED
        assert job.error == messages.PARENT_FAILED.format(parent=second.id, status=JobStatus.DEAD)
        assert _run_all(storage, worker) == ["first again"]

        storage.retry_dead(second.id, "second again")

        assert _run_all(storage, worker) == ["second again", step.id]
        assert sorted(storage.edges([step.id])) == [
            Edge(step.id, "first again", first.id),
            Edge(step.id, "second again", second.id),
        ]

    def test_a_replay_of_a_complete_parent_changes_nothing_for_its_children(
        self, storage: Storage, worker: str
    ) -> None:
        (good, bad), step = _fan_in(storage, worker, 2)
        storage.exchange(worker, [complete(good), dead(bad)], None)

        storage.replay(good.id, "again")

        assert sorted(storage.edges([step.id])) == sorted([Edge(step.id, good.id), Edge(step.id, bad.id)])
        storage.retry_dead(bad.id, "bad again")
        assert sorted(_run_all(storage, worker)) == sorted(["again", "bad again", step.id])

    def test_a_revived_job_waits_for_parents_that_still_run(self, storage: Storage, worker: str) -> None:
        (slow, bad), step = _fan_in(storage, worker, 2)
        storage.exchange(worker, [dead(bad)], None)

        storage.retry_dead(bad.id, "again")

        assert _run_all(storage, worker) == ["again"]
        storage.exchange(worker, [complete(slow)], None)
        assert _run_all(storage, worker) == [step.id]

    def test_the_letter_of_a_job_whose_replay_died_too_revives_as_well(
        self, storage: Storage, worker: str
    ) -> None:
        head, [step] = _chain(storage, worker, 1)
        storage.exchange(worker, [dead(head)], None)
        storage.replay(head.id, "first")
        [first] = claim(storage, worker, 9)
        storage.exchange(worker, [dead(first)], None)

        storage.retry_dead(head.id, "second")

        assert _run_all(storage, worker) == ["second", step.id]

    def test_a_unique_key_that_is_held_keeps_it_cancelled(self, storage: Storage, worker: str) -> None:
        head, [step] = _chain(storage, worker, 1, unique_key="k")
        storage.exchange(worker, [dead(head)], None)
        holder = make_job(unique_key="k")
        storage.enqueue([holder])

        storage.retry_dead(head.id, "again")

        assert status_of(storage, step.id) is JobStatus.CANCELLED
        assert sorted(_run_all(storage, worker)) == sorted(["again", holder.id])

    def test_only_one_of_two_comes_back_if_they_have_one_unique_key(
        self, storage: Storage, worker: str
    ) -> None:
        head = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [dead(head)], None)
        storage.enqueue([make_job(parents=(head.id,), unique_key="k", id=name) for name in ("a", "b")])

        storage.retry_dead(head.id, "again")

        assert [status_of(storage, name) for name in ("a", "b")] == [JobStatus.PENDING, JobStatus.CANCELLED]
        assert _run_all(storage, worker) == ["again", "a"]

    def test_a_revived_job_has_as_much_time_to_start_as_it_had(self, storage: Storage, worker: str) -> None:
        head, [step] = _chain(storage, worker, 1, expires=60.0)
        storage.exchange(worker, [dead(head)], None)
        storage.clock_shift = 600_000

        storage.retry_dead(head.id, "again")

        [job] = storage.get([step.id])
        assert job.expires_at is not None
        assert 0 <= job.expires_at - (storage.now() + 60_000) + 5_000 <= 5_000
        storage.clock_shift = 661_000
        assert storage.sweep(9).expired == [step.id]

    def test_a_revived_job_waits_for_a_place_of_its_key(self, storage: Storage, worker: str) -> None:
        head, [step] = _chain(storage, worker, 1, concurrency_key="key", concurrency=1)
        storage.exchange(worker, [dead(head)], None)
        holder = enqueue_and_claim(storage, worker, concurrency_key="key", concurrency=1)
        storage.retry_dead(head.id, "again")

        assert _run_all(storage, worker) == ["again"]
        assert storage.get([step.id])[0].gate == Gate.KEY
        storage.exchange(worker, [complete(holder)], None)
        assert _run_all(storage, worker) == [step.id]

    def test_a_replay_keeps_the_results_that_the_original_needed(self, storage: Storage, worker: str) -> None:
        parent = enqueue_and_claim(storage, worker, result_ttl=0.0)
        child = make_job(parents=(parent.id,), result_ttl=0.0)
        storage.enqueue([child])
        [claimed] = storage.exchange(worker, [complete(parent)], want(1)).claims
        storage.exchange(worker, [dead(claimed)], None)

        storage.retry_dead(child.id, "again")

        assert storage.edges(["again"]) == [Edge("again", parent.id)]
        storage.clock_shift = 1_000
        assert storage.prune(9).jobs == 1  # the child
        assert [job.id for job in storage.get([parent.id, child.id])] == [parent.id]
        [again] = claim(storage, worker, 9)
        storage.exchange(worker, [complete(again)], None)
        storage.clock_shift = 2_000
        assert storage.prune(9).jobs == 2

    @pytest.mark.parametrize("end", [dead, cancelled])
    def test_results_stay_while_a_job_that_needs_them_may_be_run_again(
        self, storage: Storage, worker: str, end: object
    ) -> None:
        (good, bad), step = _fan_in(storage, worker, 2, result_ttl=0.0)
        storage.exchange(worker, [complete(good), end(bad)], None)  # type: ignore[operator]
        storage.clock_shift = 3_600_000

        assert storage.prune(9).jobs == 1  # the parent that failed has no result
        assert storage.purge(JobStatus.COMPLETE, storage.now(), 9) == 0
        assert [job.id for job in storage.get([good.id, bad.id])] == [good.id]

        storage.delete([step.id])
        assert storage.prune(9).jobs == 1

    def test_two_replays_at_the_same_moment_revive_the_child_they_have_in_common(
        self, storage: Storage, worker: str
    ) -> None:
        for _ in range(10):
            parents, step = _fan_in(storage, worker, 4)
            storage.exchange(worker, [dead(parent) for parent in parents], None)

            with ThreadPoolExecutor(4) as threads:
                list(threads.map(lambda parent: storage.retry_dead(parent.id, new_id()), parents))

            assert _run_all(storage, worker)[4:] == [step.id]

    def test_a_release_does_not_revive(self, storage: Storage, worker: str) -> None:
        head, [step] = _chain(storage, worker, 1)
        storage.exchange(worker, [release(head)], None)
        storage.cancel([head.id], "no")

        assert storage.replay(step.id, "again") is not None

        assert status_of(storage, step.id) is JobStatus.CANCELLED
        assert _run_all(storage, worker) == ["again"]


def _chain(storage: Storage, worker: str, steps: int, **fields: object) -> tuple[Claim, list[NewJob]]:
    """A running job, and as many after it, one behind the other, with these fields."""
    head = enqueue_and_claim(storage, worker)
    jobs: list[NewJob] = []
    for _ in range(steps):
        jobs.append(make_job(parents=(jobs[-1].id if jobs else head.id,), **fields))
    storage.enqueue(jobs)
    return head, jobs


def _fan_in(storage: Storage, worker: str, width: int, **fields: object) -> tuple[list[Claim], NewJob]:
    """So many running jobs with these fields, in the order of their ids, and one that waits for all."""
    parents = [make_job(**fields) for _ in range(width)]
    step = make_job(parents=tuple(parent.id for parent in parents))
    storage.enqueue([*parents, step])
    return sorted(claim(storage, worker, width)), step


def _run_all(storage: Storage, worker: str) -> list[str]:
    """Complete what can be claimed until there is nothing left; the ids in order."""
    ran: list[str] = []
    claims = claim(storage, worker, 9)
    while claims:
        ran += [one.id for one in claims]
        claims = storage.exchange(worker, [complete(one) for one in claims], want(9)).claims
    return ran
