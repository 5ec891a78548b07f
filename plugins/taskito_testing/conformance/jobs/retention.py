"""How long a store keeps what has no time of its own: finished jobs, dead ones, lines of job logs."""

from __future__ import annotations

from typing import Any

import pytest

from taskito_core.storage import Storage
from taskito_core.storage_client import LogFilter
from taskito_core.storage_worker import LogEntry, Retention
from taskito_testing.conformance.base import ConformanceBase, Connect
from taskito_testing.factories import claim, complete, dead, enqueue_and_claim, make_job

_DAY = 24 * 60 * 60 * 1000


def _end_one_of_each(storage: Storage, worker: str, **fields: Any) -> tuple[str, str, str]:
    """The ids of a job that completed, one that was cancelled, and one that is dead."""
    storage.enqueue([make_job(**fields) for _ in range(2)])
    [completed, died] = claim(storage, worker, 2)
    called_off = make_job(**fields)
    storage.enqueue([called_off])
    storage.cancel([called_off.id], "not wanted")
    storage.exchange(worker, [complete(completed), dead(died)], None)
    return completed.id, called_off.id, died.id


def _stored(storage: Storage, *ids: str) -> list[str]:
    there = {job.id for job in storage.get(ids)}
    return [job_id for job_id in ids if job_id in there]


class Retaining(ConformanceBase):
    def test_a_new_store_keeps_finished_jobs_for_seven_days_and_dead_ones_for_thirty(
        self, storage: Storage, worker: str
    ) -> None:
        assert storage.retention() == Retention(7 * 86_400, 30 * 86_400, 30 * 86_400, 7 * 86_400)
        completed, called_off, died = _end_one_of_each(storage, worker)

        storage.clock_shift = 7 * _DAY - 60_000
        assert storage.prune(9)[:2] == (0, 0)
        storage.clock_shift = 7 * _DAY + 60_000
        assert storage.prune(9)[:2] == (2, 0)
        assert _stored(storage, completed, called_off, died) == [died]

        storage.clock_shift = 30 * _DAY - 60_000
        assert storage.prune(9)[:2] == (0, 0)
        storage.clock_shift = 30 * _DAY + 60_000
        assert storage.prune(9)[:2] == (0, 1)
        assert _stored(storage, completed, called_off, died) == []
        assert storage.letters([died]) == []

    def test_a_time_of_its_own_beats_the_retention_shorter_or_longer(
        self, storage: Storage, worker: str
    ) -> None:
        short = _end_one_of_each(storage, worker, result_ttl=60.0)
        long = _end_one_of_each(storage, worker, result_ttl=60 * 86_400.0)

        storage.clock_shift = 120_000
        assert storage.prune(9)[:2] == (2, 1)
        storage.clock_shift = 59 * _DAY
        assert storage.prune(9)[:2] == (0, 0)
        assert _stored(storage, *short, *long) == list(long)

    def test_what_is_set_holds_at_once_for_what_ended_before_and_for_every_connection(
        self, storage: Storage, worker: str, connect: Connect
    ) -> None:
        completed, called_off, died = _end_one_of_each(storage, worker)
        connect().retain(Retention(finished=None, dead=60.0, logs=None, metrics=5.0))

        storage.clock_shift = 400 * _DAY

        assert storage.retention() == Retention(None, 60.0, None, 5.0)
        assert storage.prune(9)[:2] == (0, 1)
        assert _stored(storage, completed, called_off, died) == [completed, called_off]

    def test_parents_that_are_needed_outlive_the_retention(self, storage: Storage, worker: str) -> None:
        parent = enqueue_and_claim(storage, worker)
        storage.enqueue([make_job(parents=(parent.id,), delay=90 * 86_400.0)])
        storage.exchange(worker, [complete(parent)], None)

        storage.clock_shift = 20 * _DAY

        assert storage.prune(9)[:2] == (0, 0)
        assert _stored(storage, parent.id) == [parent.id]

    def test_no_more_than_the_limit_goes_at_once_by_whichever_rule(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job(result_ttl=ttl) for ttl in (1.0, 1.0, None, None, None)])
        storage.exchange(worker, [complete(one) for one in claim(storage, worker, 5)], None)
        storage.clock_shift = 8 * _DAY

        assert [storage.prune(2).jobs for _ in range(4)] == [2, 2, 1, 0]

    def test_lines_of_logs_go_in_their_time_and_those_of_a_job_with_it(
        self, storage: Storage, worker: str
    ) -> None:
        kept = enqueue_and_claim(storage, worker, result_ttl=90 * 86_400.0)
        gone = enqueue_and_claim(storage, worker)
        now = storage.now()
        written = [(kept, now), (kept, now + 2 * _DAY), (kept, now + 20 * _DAY), (gone, now)]
        lines = [
            LogEntry(f"{number:08d}", job.id, job.task_name, job.token, moment, "info", "said", None)
            for number, (job, moment) in enumerate(written)
        ]
        storage.note(lines)
        storage.exchange(worker, [complete(kept), complete(gone)], None)

        storage.clock_shift = 8 * _DAY
        assert storage.prune(9)[:3] == (1, 0, 0)
        assert storage.logs(LogFilter(), 9) == lines[:3]

        storage.clock_shift = 33 * _DAY
        assert storage.prune(1)[:3] == (0, 0, 1)
        assert storage.prune(9)[:3] == (0, 0, 1)
        assert storage.logs(LogFilter(), 9) == [lines[2]]

    @pytest.mark.parametrize("days", [8, 31])
    def test_a_dry_run_counts_what_would_go_and_changes_nothing(
        self, storage: Storage, worker: str, days: int
    ) -> None:
        ids = _end_one_of_each(storage, worker)
        storage.clock_shift = days * _DAY

        would = storage.prune(9, dry_run=True)

        assert would.announce is None
        assert _stored(storage, *ids) == list(ids)
        assert storage.prune(9)[:3] == would[:3] == (2, int(days > 30), 0)

    def test_what_holds_is_announced_once_in_the_life_of_a_store(
        self, storage: Storage, connect: Connect
    ) -> None:
        storage.retain(Retention(dead=None))

        announced = [one.prune(9).announce for one in (storage, connect(), storage)]

        assert announced == [Retention(dead=None), None, None]
