"""What a claim reads and finds where priorities and lanes are many, and rows are held."""

from __future__ import annotations

from typing import Any

import psycopg

from taskito_postgres.sql.claim import MAX_STEPS
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, make_job, release, want


def test_a_claim_stays_cheap_with_many_future_jobs_of_a_higher_priority(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    later = storage.now() + 10**9
    storage.enqueue([make_job(priority=9, scheduled_at=later + n) for n in range(20_000)])
    due = [receipt.id for receipt in storage.enqueue([make_job(priority=1) for _ in range(10)])]

    def read() -> int:
        database.execute("SELECT pg_stat_clear_snapshot()")
        row = database.execute(
            "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_live_claim'"
        ).fetchone()
        assert row is not None
        return int(row[0])

    storage._connections.on_worker("flush", lambda s: s.rows(b"SELECT pg_stat_force_next_flush()", {}))
    before = read()
    found = claim(storage, worker_id, 50)
    storage._connections.on_worker("flush", lambda s: s.rows(b"SELECT pg_stat_force_next_flush()", {}))

    assert sorted(each.id for each in found) == sorted(due)
    assert read() - before < 1000


def test_more_priorities_than_steps_are_claimed_all_the_same(
    storage: PostgresStorage, worker_id: str
) -> None:
    later = storage.now() + 10**9
    storage.enqueue([make_job(priority=1000 + n, scheduled_at=later) for n in range(MAX_STEPS * 2)])
    [receipt] = storage.enqueue([make_job(priority=0)])

    found = claim(storage, worker_id, 10) or claim(storage, worker_id, 10)

    assert [each.id for each in found] == [receipt.id]


def test_lanes_that_share_a_priority_are_merged_by_age(storage: PostgresStorage, worker_id: str) -> None:
    now = storage.now() - 10_000
    jobs = [make_job(scheduled_at=now + n, priority=n // 4) for n in range(8)]
    storage.enqueue(jobs)
    held = {each.id: each for each in claim(storage, worker_id, 8)}
    lanes = [None, "job", "other", None, "job", None, "job", "unknown"]
    storage.exchange(
        worker_id, [release(held[job.id], lane) for job, lane in zip(jobs, lanes, strict=True)], None
    )

    got = [claim(storage, worker_id, n, tasks=("job", "other")) for n in (3, 9)]

    expected = [jobs[n].id for n in (4, 5, 6, 0, 1, 2, 3)]
    assert [each.id for each in got[0]] == expected[:3]
    assert [each.id for each in got[1]] == expected[3:]


def test_a_due_job_that_another_transaction_holds_is_looked_for_again_in_a_moment(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    [receipt] = storage.enqueue([make_job()])
    with database.transaction():
        database.execute("UPDATE taskito.jobs_live SET awaited = true WHERE id = %s", (receipt.id,))
        answer = storage.exchange(worker_id, [], want(5))

    assert answer.claims == []
    assert answer.next_due is not None
    assert 0 < answer.next_due - answer.now <= 1000
    assert [each.id for each in claim(storage, worker_id)] == [receipt.id]
