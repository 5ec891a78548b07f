"""The hot statements: how they are planned, and what they do when others are at the same rows."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import (
    Claim,
    ConfigError,
    Dead,
    DeadReason,
    ErrorKind,
    JobStatus,
    NewJob,
    Outcome,
    StorageError,
    new_id,
)
from taskito_core.testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    error_info,
    make_job,
    make_worker,
    release,
    retry,
    want,
)
from taskito_postgres import sql
from taskito_postgres.sql import Statements
from taskito_postgres.storage import PostgresStorage

from .conftest import OpenStorage

NAMES = {value: name for name, value in vars(sql).items() if isinstance(value, str)}


@pytest.fixture
def worker_id(storage: PostgresStorage) -> str:
    worker = make_worker()
    storage.register(worker)
    return worker.id


def numbered(statement: bytes) -> tuple[str, int]:
    """The statement with $1, $2, ... for its named parameters, and how many there are."""
    names: list[str] = []

    def place(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}{_CASTS[found[1]]}"

    return re.sub(r"%\((\w+)\)b", place, statement.decode()), len(names)


_CASTS = {
    **dict.fromkeys(("worker", "waiting"), "::text"),
    **dict.fromkeys(("shift", "limit", "token"), "::bigint"),
    **dict.fromkeys(("id", "task_name", "queue", "metadata_text", "tags_text"), "::text"),
    **dict.fromkeys(("priority", "scheduled_at", "retries"), "::bigint"),
    **dict.fromkeys(("delay", "timeout", "result_ttl"), "::float8"),
    "payload": "::bytea",
    **dict.fromkeys(("tokens", "started", "priorities", "scheduled", "max_retries"), "::bigint[]"),
    **dict.fromkeys(("delays", "timeouts", "result_ttls"), "::float8[]"),
    **dict.fromkeys(("results", "payloads"), "::bytea[]"),
    **dict.fromkeys(
        (
            "ids", "queues", "tasks", "charges", "kinds", "types", "messages", "tracebacks", "summaries",
            "extras", "lanes", "statuses", "task_names", "metadata", "tags",
        ),
        "::text[]",
    ),
}  # fmt: skip


def analyzed(database: psycopg.Connection[Any]) -> None:
    for table in ("jobs_live", "jobs_done", "job_errors", "dead_letter", "workers"):
        database.execute(f"VACUUM ANALYZE taskito.{table}".encode())


#: What the planner may believe: nothing yet, that all is empty, the truth about many rows, that all
#: is empty although it is not.
BELIEFS = ("new", "empty", "full", "wrong")


@pytest.mark.parametrize("belief", BELIEFS)
def test_no_hot_statement_reads_a_table_through_whatever_the_planner_believes(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any], belief: str
) -> None:
    if belief in ("empty", "wrong"):
        analyzed(database)
    if belief in ("full", "wrong"):
        storage.enqueue([make_job() for _ in range(3000)])
        claims = claim(storage, worker_id, 1000)
        storage.exchange(worker_id, [retry(each) for each in claims[:200]], None)
        storage.exchange(worker_id, [complete(each) for each in claims[200:700]], None)
    if belief == "full":
        analyzed(database)

    plans = {NAMES[statement]: plan(storage, statement) for statement in sql.HOT}

    read_through = {name: shown for name, shown in plans.items() if any(_reads_through(shown))}
    assert not read_through, "\n\n".join(f"{name}\n{shown}" for name, shown in read_through.items())


def plan(storage: PostgresStorage, statement: str) -> str:
    text, parameters = numbered(Statements("taskito")[statement])

    def explain(session: Any) -> str:
        session.connection.execute(f"PREPARE hot AS {text}".encode())
        nulls = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        lines = session.connection.execute(f"EXPLAIN EXECUTE hot{nulls}".encode()).fetchall()
        session.connection.execute("DEALLOCATE hot")
        return "\n".join(line for (line,) in lines)

    return storage._connections.on_worker("explain", explain)


def _reads_through(shown: str) -> Iterator[str]:
    """Lines of a plan that read a whole table of jobs, in order or through an index without a condition."""
    lines = [*shown.splitlines(), ""]
    for line, below in itertools.pairwise(lines):
        table = re.search(r"Scan (?:using \w+ )?on (jobs\w*|job_errors|dead_letter)", line)
        # The running jobs are few, and they have an index of their own.
        if table and "Cond:" not in below and "jobs_live_worker" not in line:
            yield line


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
    storage.enqueue([make_job(priority=1000 + n, scheduled_at=later) for n in range(sql.MAX_STEPS * 2)])
    [receipt] = storage.enqueue([make_job(priority=0)])

    found = claim(storage, worker_id, 10) or claim(storage, worker_id, 10)

    assert [each.id for each in found] == [receipt.id]


def test_lanes_that_share_a_priority_are_merged_by_age(storage: PostgresStorage, worker_id: str) -> None:
    now = storage.now() - 10_000
    jobs = [make_job(scheduled_at=now + n, priority=n // 4) for n in range(8)]
    storage.enqueue(jobs)
    claims = {each.id: each for each in claim(storage, worker_id, 8)}
    lanes = [None, "job", "other", None, "job", None, "job", "unknown"]
    storage.exchange(
        worker_id, [release(claims[job.id], lane) for job, lane in zip(jobs, lanes, strict=True)], None
    )

    got = [claim(storage, worker_id, n, tasks=("job", "other")) for n in (3, 9)]

    expected = [jobs[n].id for n in (4, 5, 6, 0, 1, 2, 3)]
    assert [each.id for each in got[0]] == expected[:3]
    assert [each.id for each in got[1]] == expected[3:]


def test_a_settle_that_meets_a_move_of_the_same_row_is_tried_again_at_once(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    storage.enqueue([make_job() for _ in range(5)])
    claims = claim(storage, worker_id, 5)
    answers = []
    with database.transaction():
        database.execute(
            "UPDATE taskito.jobs SET finished = true, status = 'cancelled' WHERE id = %s AND NOT finished",
            (claims[2].id,),
        )
        thread = threading.Thread(
            target=lambda: answers.append(
                storage.exchange(worker_id, [complete(each) for each in claims], want(1))
            )
        )
        thread.start()
        wait_until(
            lambda: (
                database.execute(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
                ).fetchone()
                == (1,)
            )
        )
    thread.join(timeout=30)

    # The cancelled one keeps the token it had, and is not complete: it was not recorded.
    assert answers[0].recorded == {each.id for each in claims} - {claims[2].id}


def test_producers_with_crossed_orders_never_deadlock(open_storage: OpenStorage) -> None:
    storage = open_storage()
    storage.migrate()
    jobs = [make_job() for _ in range(200)]

    with ThreadPoolExecutor(4) as threads:
        sent = list(
            threads.map(storage.enqueue, [jobs, jobs[::-1], jobs[100:] + jobs[:100], jobs[::2] + jobs[1::2]])
        )

    assert sum(receipt.inserted for receipts in sent for receipt in receipts) == 200


@pytest.mark.parametrize("count", [1, 2500], ids=["by arrays", "by COPY"])
def test_the_same_jobs_again_while_and_after_they_finish_store_nothing(
    storage: PostgresStorage, worker_id: str, count: int
) -> None:
    jobs = [make_job() for _ in range(count)]
    assert all(receipt.inserted for receipt in storage.enqueue(jobs))
    half = claim(storage, worker_id, (count + 1) // 2)
    storage.exchange(worker_id, [complete(each) for each in half], None)

    again = storage.enqueue([*jobs, make_job(id=jobs[0].id)])
    fresh = make_job()

    assert not any(receipt.inserted for receipt in again)
    assert [receipt.inserted for receipt in storage.enqueue([fresh, *jobs, fresh])] == [True] + [False] * (
        count + 1
    )
    found = storage.counts().by_queue["default"]
    assert (found.complete, found.pending) == (len(half), count - len(half) + 1)


def test_a_job_that_finishes_while_it_is_sent_again_is_not_stored_twice(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    job = make_job()
    storage.enqueue([job])
    receipts: list[Any] = []
    with database.transaction():
        database.execute(
            "UPDATE taskito.jobs SET finished = true, status = 'cancelled' WHERE id = %s", (job.id,)
        )
        thread = threading.Thread(target=lambda: receipts.extend(storage.enqueue([job])))
        thread.start()
        wait_until(
            lambda: database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,)
        )
    thread.join(timeout=30)

    assert [receipt.inserted for receipt in receipts] == [False]
    assert [found.status for found in storage.get([job.id])] == [JobStatus.CANCELLED]


def test_an_outcome_that_cannot_be_stored_becomes_a_failed_job_and_the_rest_is_recorded(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    storage.enqueue([make_job() for _ in range(7)])
    claims = claim(storage, worker_id, 7)
    # A result that the server refuses, whatever the reason is.
    database.execute(
        "ALTER TABLE taskito.jobs ADD CONSTRAINT picky CHECK (result IS NULL OR result <> 'poison')"
    )
    outcomes = [complete(each, b"poison" if n == 4 else b"fine") for n, each in enumerate(claims)]

    recorded = storage.exchange(worker_id, outcomes, None).recorded

    assert recorded == {each.id for each in claims}
    found = {job.id: job for job in storage.get([each.id for each in claims])}
    statuses = [found[each.id].status for each in claims]
    assert statuses == [JobStatus.COMPLETE] * 4 + [JobStatus.DEAD] + [JobStatus.COMPLETE] * 2
    [letter] = storage.dead_letters(10, None).letters
    assert (letter.job_id, letter.reason) == (claims[4].id, DeadReason.REJECTED)


def test_texts_that_no_column_holds_do_no_harm(storage: PostgresStorage, worker_id: str) -> None:
    claimed = enqueue_and_claim(storage, worker_id)
    awful = error_info(type="E\0", message="nul \0 and half \ud800", traceback="\0\udfff")

    assert storage.exchange(worker_id, [retry(claimed, error=awful)], None).recorded == {claimed.id}
    assert storage.exchange(worker_id, [retry(claimed, error=awful)], None).recorded == {claimed.id}

    [error] = storage.errors(claimed.id)
    assert (error.type, error.message) == ("E\\x00", "nul \\x00 and half \\ud800")
    assert storage.get(["\0", "\ud800"]) == []
    assert storage.errors("\0") == []
    assert storage.await_finished("\0", 1.0) is True
    with pytest.raises(StorageError):
        storage.enqueue([make_job(task_name="\0")])
    with pytest.raises(StorageError):
        storage.enqueue([make_job(queue="\ud800")])


def test_results_of_many_megabytes_are_settled_in_one_exchange(
    storage: PostgresStorage, worker_id: str
) -> None:
    from taskito_postgres import settle

    assert [len(batch) for batch in settle._by_weight([])] == []
    storage.enqueue([make_job() for _ in range(6)])
    claims = claim(storage, worker_id, 6)
    big = b"x" * (settle.MAX_BYTES // 4)

    recorded = storage.exchange(worker_id, [complete(each, big) for each in claims], None).recorded

    assert recorded == {each.id for each in claims}


def test_a_late_retry_of_a_rescued_job_is_not_taken_for_an_earlier_sending(
    storage: PostgresStorage, worker_id: str
) -> None:
    claimed = enqueue_and_claim(storage, worker_id)
    [beat] = [worker.beat for worker in storage.workers()]
    assert storage.rescue({worker_id: beat}) == [claimed.id]

    late: list[Outcome] = [retry(claimed), dead(claimed), complete(claimed)]

    assert all(storage.exchange(worker_id, [outcome], None).recorded == frozenset() for outcome in late)
    [error] = storage.errors(claimed.id)
    assert error.kind is ErrorKind.INTERRUPTED
    assert worker_id in error.message


def test_durations_that_no_clock_reaches_are_refused_before_they_poison_a_batch(
    storage: PostgresStorage, worker_id: str
) -> None:
    for values in ({"result_ttl": float("inf")}, {"delay": float("nan")}, {"timeout": -1.0}):
        with pytest.raises(StorageError, match="seconds"):
            storage.enqueue([NewJob(id=new_id(), task_name="job", payload=b"", **values)])  # type: ignore[arg-type]

    claimed = enqueue_and_claim(storage, worker_id, result_ttl=1e12)
    assert storage.exchange(worker_id, [retry(claimed, delay=1e300)], None).recorded == {claimed.id}


def test_metadata_that_jsonb_refuses_can_be_filtered(storage: PostgresStorage) -> None:
    from taskito_core import JobFilter

    texts = [
        '{"a": "x\\u0000y", "b": 1}',
        '{"a": "\\ud83d\\ude00"}',
        '{"a": "\\ud83d"}',
        '{"a": "\\\\u0000"}',
        None,
    ]
    ids = [storage.enqueue([make_job(metadata=text)])[0].id for text in texts]

    def found(**metadata: Any) -> list[str]:
        return [job.id for job in storage.list_jobs(JobFilter(metadata=metadata), 10, None).jobs]

    assert found(a="x\0y") == [ids[0]]
    assert found(b=1) == [ids[0]]
    assert found(a="😀") == [ids[1]]
    assert found(a="\ud83d") == [ids[2]]
    assert found(a="\\u0000") == [ids[3]]


def test_a_schema_that_vanishes_is_an_error_and_no_driver_class_escapes(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    database.execute("DROP SCHEMA taskito CASCADE")

    for call in (
        lambda: storage.enqueue([make_job()]),
        lambda: storage.exchange(
            worker_id, [Dead("a", 1, DeadReason.RETRIES, None, error_info(), None)], want(1)
        ),
        lambda: storage.heartbeat(worker_id, []),
        storage.counts,
        lambda: storage.await_finished("a", 0.1),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert isinstance(caught.value.__cause__, psycopg.Error)
        assert not isinstance(caught.value, ConfigError)


@pytest.mark.parametrize("kind", [complete, retry, dead, release])
def test_an_outcome_whose_row_changes_at_that_moment_is_recorded_all_the_same(
    storage: PostgresStorage,
    worker_id: str,
    database: psycopg.Connection[Any],
    wait_until: WaitUntil,
    kind: Callable[[Claim], Outcome],
) -> None:
    storage.enqueue([make_job() for _ in range(3)])
    claims = claim(storage, worker_id, 3)
    answers = []
    with database.transaction():
        # What somebody does who begins to wait for the result.
        database.execute("UPDATE taskito.jobs_live SET awaited = true WHERE id = %s", (claims[1].id,))
        thread = threading.Thread(
            target=lambda: answers.append(storage.exchange(worker_id, [kind(each) for each in claims], None))
        )
        thread.start()
        wait_until(
            lambda: database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,)
        )
    thread.join(timeout=30)

    assert answers[0].recorded == {each.id for each in claims}


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
