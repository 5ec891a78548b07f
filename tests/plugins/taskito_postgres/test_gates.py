"""Gates while others are at the same rows: parents that end, slots that are freed, keys given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import Gate, Job, JobFilter, JobStatus, NewJob
from taskito_postgres.sql.gates import MAX_CANCELLED
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, dead, enqueue_and_claim, make_job, status_of, want

from .locks import someone_is_blocked

#: How often two threads are let loose on the same row.
TRIES = 25


def together(*calls: Callable[[], Any]) -> list[Any]:
    """The answers of calls that begin at the same moment."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def keyed(key: str = "key", slots: int = 1, **fields: Any) -> NewJob:
    return make_job(concurrency_key=key, concurrency=slots, **fields)


def test_a_child_that_is_stored_while_its_parent_ends_never_needs_the_sweep(
    storage: PostgresStorage, worker_id: str
) -> None:
    for _ in range(TRIES):
        parent = enqueue_and_claim(storage, worker_id)
        child = make_job(parents=(parent.id,))

        together(
            lambda parent=parent: storage.exchange(worker_id, [complete(parent)], None),
            lambda child=child: storage.enqueue([child]),
        )

        [claimed] = claim(storage, worker_id, 5)
        assert claimed.id == child.id
        storage.exchange(worker_id, [complete(claimed)], None)


def test_the_last_two_parents_that_end_at_once_release_their_child(
    storage: PostgresStorage, worker_id: str, open_storage: Callable[..., PostgresStorage]
) -> None:
    second = open_storage()
    for _ in range(TRIES):
        parents = [enqueue_and_claim(storage, worker_id) for _ in range(2)]
        child = make_job(parents=tuple(parent.id for parent in parents))
        storage.enqueue([child])

        together(
            lambda parent=parents[0]: storage.exchange(worker_id, [complete(parent)], None),
            lambda parent=parents[1]: second.exchange(worker_id, [complete(parent)], None),
        )

        [claimed] = claim(storage, worker_id, 5)
        assert claimed.id == child.id
        storage.exchange(worker_id, [complete(claimed)], None)


def test_a_pending_job_is_either_claimed_or_cancelled(storage: PostgresStorage, worker_id: str) -> None:
    for _ in range(TRIES):
        job = make_job()
        storage.enqueue([job])

        claims, cancelled = together(
            lambda: claim(storage, worker_id, 1), lambda job=job: storage.cancel([job.id], "not wanted")
        )

        assert len(claims) + len(cancelled) == 1
        assert status_of(storage, job.id) is (JobStatus.CANCELLED if cancelled else JobStatus.RUNNING)


def test_of_two_who_cancel_one_job_one_has_done_it(storage: PostgresStorage) -> None:
    for _ in range(TRIES):
        job = make_job()
        storage.enqueue([job])

        answers = together(*[lambda job=job: storage.cancel([job.id], "not wanted")] * 2)

        assert sorted(answers) == [[], [job.id]]


def test_a_cancel_does_not_miss_a_job_that_only_changes_at_that_moment(
    storage: PostgresStorage, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    job = make_job()
    storage.enqueue([job])
    answers: list[Any] = []
    with database.transaction():
        database.execute("UPDATE taskito.jobs_live SET awaited = true WHERE id = %s", (job.id,))
        thread = threading.Thread(target=lambda: answers.append(storage.cancel([job.id], "not wanted")))
        thread.start()
        wait_until(lambda: someone_is_blocked(database))
    thread.join(timeout=30)

    assert answers == [[job.id]]


def test_a_slot_that_is_freed_while_another_job_of_the_key_arrives_is_taken_by_one(
    storage: PostgresStorage, worker_id: str
) -> None:
    running = enqueue_and_claim(storage, worker_id, concurrency_key="key", concurrency=1)
    for _ in range(TRIES):
        waiting = keyed()

        together(
            lambda running=running: storage.exchange(worker_id, [complete(running)], None),
            lambda waiting=waiting: storage.enqueue([waiting]),
        )

        [running] = claim(storage, worker_id, 5)
        assert running.id == waiting.id


def test_producers_of_many_keys_in_any_order_never_deadlock(storage: PostgresStorage) -> None:
    storage.migrate()
    names = [f"key-{n}" for n in range(300)]
    orders = [names, names[::-1], names[150:] + names[:150], names[::2] + names[1::2]]

    together(*[lambda order=order: storage.enqueue([keyed(name) for name in order]) for order in orders])

    jobs = every_job(storage)
    assert (len(jobs), sum(job.gate is None for job in jobs)) == (1200, 300)


def every_job(storage: PostgresStorage) -> list[Job]:
    page = storage.list_jobs(JobFilter(), 500, None)
    jobs = page.jobs
    while page.cursor is not None:
        page = storage.list_jobs(JobFilter(), 500, page.cursor)
        jobs += page.jobs
    return jobs


def test_a_unique_key_whose_holder_ends_at_that_moment_is_taken_over(
    storage: PostgresStorage, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    holder, heir = make_job(unique_key="k"), make_job(unique_key="k")
    storage.enqueue([holder])
    receipts: list[Any] = []
    with database.transaction():
        database.execute(
            "UPDATE taskito.jobs SET finished = true, status = 'cancelled' WHERE id = %s", (holder.id,)
        )
        thread = threading.Thread(target=lambda: receipts.extend(storage.enqueue([heir])))
        thread.start()
        wait_until(lambda: someone_is_blocked(database))
    thread.join(timeout=30)

    assert [(receipt.id, receipt.inserted) for receipt in receipts] == [(heir.id, True)]


def test_two_sweeps_at_once_do_everything_once(
    storage: PostgresStorage, open_storage: Callable[..., PostgresStorage]
) -> None:
    second = open_storage()
    storage.enqueue([make_job(expires=10.0) for _ in range(50)])
    storage.enqueue([keyed(f"key-{n}", delay=10.0) for n in range(50)])
    storage.clock_shift = second.clock_shift = 11_000

    swept = together(lambda: storage.sweep(1000), lambda: second.sweep(1000))

    assert sum(len(each.expired) for each in swept) == 50
    assert sum(len(each.opened) for each in swept) == 50


def test_what_a_worker_without_gates_left_behind_is_found_by_the_sweep(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    parent = enqueue_and_claim(storage, worker_id, concurrency_key="key", concurrency=1)
    child, next_of_key = make_job(parents=(parent.id,)), keyed()
    storage.enqueue([child, next_of_key])
    # What a worker that died right after its settle has done.
    database.execute(
        "UPDATE taskito.jobs SET finished = true, status = 'complete' WHERE id = %s", (parent.id,)
    )
    assert claim(storage, worker_id, 5) == []

    swept = storage.sweep(100)

    assert sorted(swept.opened) == sorted([child.id, next_of_key.id])
    assert sorted(each.id for each in claim(storage, worker_id, 5)) == sorted(swept.opened)


def test_the_net_is_drawn_through_more_than_one_sweep_looks_at(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    parent, blocker = (enqueue_and_claim(storage, worker_id) for _ in range(2))
    stuck = make_job(parents=(parent.id,))
    storage.enqueue([make_job(parents=(blocker.id,)) for _ in range(40)])
    storage.enqueue([stuck])
    storage.enqueue([make_job(parents=(blocker.id,)) for _ in range(40)])
    database.execute(
        "UPDATE taskito.jobs SET finished = true, status = 'complete' WHERE id = %s", (parent.id,)
    )

    opened = [job_id for _ in range(12) for job_id in storage.sweep(10).opened]

    assert opened == [stuck.id]


def test_a_dead_parent_takes_more_dependants_along_than_one_statement_does(
    storage: PostgresStorage, worker_id: str
) -> None:
    root = enqueue_and_claim(storage, worker_id)
    first = [make_job(parents=(root.id,)) for _ in range(MAX_CANCELLED)]
    below = [make_job(parents=(first[n].id,)) for n in range(500)]
    tolerant = make_job(parents=(below[-1].id,), tolerant=True)
    storage.enqueue([*first, *below, tolerant])

    answer = storage.exchange(worker_id, [dead(root)], want(5))

    assert [each.id for each in answer.claims] == [tolerant.id]
    counts = storage.counts().by_queue["default"]
    assert (counts.cancelled, counts.pending) == (len(first) + len(below), 0)


def test_a_deep_chain_is_cancelled_to_its_end(storage: PostgresStorage) -> None:
    chain = [make_job()]
    for _ in range(3000):
        chain.append(make_job(parents=(chain[-1].id,)))
    storage.enqueue(chain)

    assert storage.cancel([chain[0].id], "not wanted") == [chain[0].id]

    assert storage.counts().by_queue["default"].cancelled == len(chain)


def test_ten_thousand_parents_have_one_child(storage: PostgresStorage, worker_id: str) -> None:
    parents = [make_job() for _ in range(10_000)]
    child = make_job(parents=tuple(parent.id for parent in parents))
    storage.enqueue([*parents, child])

    claims = claim(storage, worker_id, 10_000)
    storage.exchange(worker_id, [complete(each) for each in claims[:-1]], None)
    assert storage.get([child.id])[0].gate == Gate.PARENTS
    answer = storage.exchange(worker_id, [complete(claims[-1])], want(1))

    assert [each.id for each in answer.claims] == [child.id]


def test_a_claim_with_caps_locks_little_more_than_it_takes(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    storage.enqueue([make_job(lane="job", priority=n % 5) for n in range(500)])
    storage.enqueue([make_job(priority=n % 5) for n in range(50)])

    claims = claim(storage, worker_id, 30, caps={"job": 7})

    # Locks of rows that were not taken stay visible in the rows as xmax.
    row = database.execute(
        "SELECT count(*) FROM taskito.jobs_live WHERE status = 'pending' AND xmax <> 0"
    ).fetchone()
    assert row is not None
    assert len(claims) == 30
    assert row[0] <= 30 + 7


@pytest.mark.parametrize("keeps", ["child", "next of key"])
def test_a_job_is_let_go_although_it_is_marked_as_awaited_at_that_moment(
    storage: PostgresStorage,
    worker_id: str,
    database: psycopg.Connection[Any],
    wait_until: WaitUntil,
    keeps: str,
) -> None:
    running = enqueue_and_claim(storage, worker_id, concurrency_key="key", concurrency=1)
    waiting = make_job(parents=(running.id,)) if keeps == "child" else keyed()
    storage.enqueue([waiting])
    answers: list[Any] = []
    with database.transaction():
        database.execute("UPDATE taskito.jobs_live SET awaited = true WHERE id = %s", (waiting.id,))
        thread = threading.Thread(
            target=lambda: answers.append(storage.exchange(worker_id, [complete(running)], want(1)))
        )
        thread.start()
        wait_until(lambda: someone_is_blocked(database))
    thread.join(timeout=30)

    assert [each.id for each in answers[0].claims] == [waiting.id]
