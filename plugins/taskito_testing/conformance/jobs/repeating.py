"""Running finished jobs again: as they were, as new jobs, and written down."""

from __future__ import annotations

from typing import Any

import pytest

from taskito_core import columns
from taskito_core.job import Job, JobStatus, Outcome, Receipt, new_id
from taskito_core.storage import Storage
from taskito_core.storage_client import Gate
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    cancelled,
    claim,
    complete,
    dead,
    enqueue_and_claim,
    make_job,
    retry,
    status_of,
)

_OF_KIND: dict[columns.Kind, Any] = {
    columns.Kind.TEXT: "text",
    columns.Kind.INTEGER: 7,
    columns.Kind.REAL: 900.0,
    columns.Kind.BYTES: bytes(range(256)),
    columns.Kind.LIST: ("x", "y"),
}
#: What decides who may claim a job, and when: see the tests below.
_CLAIMING = {"task_name", "queue", "lane", "concurrency"}
#: All else that a producer says of a job and its letter keeps, each other than its default.
_FIELDS: dict[str, Any] = {
    column.name: _OF_KIND[column.kind]
    for column in columns.JOBS
    if column.set_by is columns.SetBy.PRODUCER and column.in_letter and column.name not in _CLAIMING
}
_FIELDS["metadata"] = '{"a": 1}'
_ENDS = {"complete": complete, "dead": dead, "cancelled": cancelled}


class Repeating(ConformanceBase):
    @pytest.mark.parametrize("end", _ENDS.values(), ids=_ENDS)
    def test_a_replay_is_a_new_job_like_the_old_one(self, storage: Storage, worker: str, end: Any) -> None:
        claimed = enqueue_and_claim(storage, worker, **_FIELDS, concurrency=1)
        storage.exchange(worker, [end(claimed)], None)
        [before] = storage.get([claimed.id])
        storage.clock_shift = 60_000
        again = new_id()

        assert storage.replay(claimed.id, again) == Receipt(again, True)

        [job] = storage.get([again])
        assert {name: getattr(job, name) for name in _FIELDS} == _FIELDS
        assert (job.task_name, job.queue, job.status) == ("job", "default", JobStatus.PENDING)
        assert (job.result, job.error, job.retry_count, job.worker, job.token) == (None, None, 0, None, None)
        assert job.scheduled_at == job.created_at >= before.created_at + 60_000
        assert storage.get([claimed.id]) == [before]

    def test_a_replay_can_be_claimed_at_once(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, complete)
        storage.replay(done.id, "again")

        assert [c.id for c in claim(storage, worker, 9)] == ["again"]

    def test_a_replay_stays_in_its_lane(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(lane="mail")])
        [claimed] = claim(storage, worker, tasks=("mail",))
        storage.exchange(worker, [complete(claimed)], None)

        storage.replay(claimed.id, "again")

        assert claim(storage, worker) == []
        assert [c.id for c in claim(storage, worker, tasks=("mail",))] == ["again"]

    def test_a_replay_has_the_same_time_to_start(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, complete, expires=60.0)
        storage.clock_shift = 600_000

        storage.replay(done.id, "again")

        [job] = storage.get(["again"])
        assert job.expires_at == job.created_at + 60_000

    def test_a_replay_waits_for_a_place_of_its_key(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, complete, concurrency_key="key", concurrency=1)
        holder = enqueue_and_claim(storage, worker, concurrency_key="key", concurrency=1)

        storage.replay(done.id, "again")

        assert storage.get(["again"])[0].gate == Gate.KEY
        storage.exchange(worker, [complete(holder)], None)
        assert [c.id for c in claim(storage, worker)] == ["again"]

    def test_a_replay_does_not_wait_for_the_parents(self, storage: Storage, worker: str) -> None:
        parent = enqueue_and_claim(storage, worker)
        child = make_job(parents=(parent.id,))
        storage.enqueue([child])
        storage.exchange(worker, [dead(parent)], None)
        assert status_of(storage, child.id) is JobStatus.CANCELLED

        storage.replay(child.id, "again")

        assert [c.id for c in claim(storage, worker)] == ["again"]
        assert storage.edges(["again"]) == []

    @pytest.mark.parametrize("call", ["replay", "retry_dead"])
    def test_what_has_not_finished_is_not_replayed(self, storage: Storage, worker: str, call: str) -> None:
        running = enqueue_and_claim(storage, worker)
        pending = make_job()
        storage.enqueue([pending])

        answers = [getattr(storage, call)(old, "again") for old in (running.id, pending.id, "unknown")]

        assert answers == [None, None, None]
        assert storage.get(["again"]) == []

    @pytest.mark.parametrize("call", ["replay", "retry_dead"])
    def test_a_unique_key_that_is_held_leaves_all_as_it_is(
        self, storage: Storage, worker: str, call: str
    ) -> None:
        done = _ended(storage, worker, dead, unique_key="k")
        holder = make_job(unique_key="k")
        storage.enqueue([holder])

        assert getattr(storage, call)(done.id, "again") == Receipt(holder.id, False)

        assert storage.get(["again"]) == []
        assert storage.replays(done.id) == []
        assert len(storage.letters([done.id])) == 1

    def test_the_history_tells_what_came_of_each_replay(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, dead)
        error = storage.get([done.id])[0].error
        before = storage.now()
        storage.replay(done.id, "first")
        storage.clock_shift = 1_000
        storage.replay(done.id, "second")
        claims = {c.id: c for c in claim(storage, worker, 9)}
        outcomes: list[Outcome] = [complete(claims["first"], b"well"), retry(claims["second"], 60.0)]
        storage.exchange(worker, outcomes, None)

        first, second = storage.replays(done.id)

        assert (first.job_id, first.new_id, second.new_id) == (done.id, "first", "second")
        assert before <= first.replayed_at < second.replayed_at
        assert {(row.status_before, row.error_before) for row in (first, second)} == {(JobStatus.DEAD, error)}
        assert (first.status, first.error, first.result) == (JobStatus.COMPLETE, None, b"well")
        assert (second.status, second.result) == (JobStatus.PENDING, None)
        assert second.error == storage.get(["second"])[0].error
        assert storage.replays("unknown") == []

    def test_a_replay_leads_back_to_the_job_that_it_repeats(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, dead)
        storage.retry_dead(done.id, "again")
        [claimed] = claim(storage, worker)
        storage.exchange(worker, [dead(claimed)], None)
        storage.clock_shift = 1_000
        storage.retry_dead("again", "once more")

        found = {job_id: storage.replays(job_id) for job_id in (done.id, "again", "once more")}

        assert {job_id: [(row.job_id, row.new_id) for row in rows] for job_id, rows in found.items()} == {
            done.id: [(done.id, "again")],
            "again": [(done.id, "again"), ("again", "once more")],
            "once more": [("again", "once more")],
        }

    def test_a_replay_that_is_gone_is_told_as_such(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, complete)
        storage.replay(done.id, "again")
        storage.cancel(["again"], "no")
        storage.delete(["again"])

        [row] = storage.replays(done.id)

        assert (row.new_id, row.status, row.error, row.result) == ("again", None, None, None)

    def test_a_replay_may_be_sent_again(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, complete)
        storage.replay(done.id, "again")

        assert storage.replay(done.id, "again") == Receipt("again", False)

        assert len(storage.replays(done.id)) == 1

    def test_retrying_a_dead_job_takes_its_letter(self, storage: Storage, worker: str) -> None:
        gone, kept = _ended(storage, worker, dead), _ended(storage, worker, dead)
        [before] = storage.get([gone.id])

        assert storage.retry_dead(gone.id, "again") == Receipt("again", True)

        assert [letter.job_id for letter in storage.dead_letters(9, None).letters] == [kept.id]
        assert storage.get([gone.id]) == [before]
        assert [c.id for c in claim(storage, worker, 9)] == ["again"]
        assert [row.new_id for row in storage.replays(gone.id)] == ["again"]
        assert len(storage.errors(gone.id)) == 1

    def test_a_dead_job_keeps_all_it_had_when_it_is_retried(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, dead, **_FIELDS, concurrency=1)

        storage.retry_dead(done.id, "again")

        [job] = storage.get(["again"])
        assert {name: getattr(job, name) for name in _FIELDS} == _FIELDS

    def test_a_second_retry_finds_no_letter(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, dead)
        storage.retry_dead(done.id, "again")

        assert storage.retry_dead(done.id, "once more") is None

        assert storage.get(["once more"]) == []

    def test_a_job_that_is_not_dead_has_no_letter_to_retry(self, storage: Storage, worker: str) -> None:
        done = _ended(storage, worker, complete)

        assert storage.retry_dead(done.id, "again") is None


def _ended(storage: Storage, worker: str, end: Any, **fields: Any) -> Job:
    """A job that has finished so; nothing else may be waiting in its queue."""
    claimed = enqueue_and_claim(storage, worker, **fields)
    storage.exchange(worker, [end(claimed)], None)
    [job] = storage.get([claimed.id])
    return job
