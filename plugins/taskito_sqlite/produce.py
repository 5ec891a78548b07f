"""New jobs into the table, inside the caller's write transaction."""

from __future__ import annotations

import json
import operator
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from taskito_core import JobNotFoundError, NewJob, Receipt
from taskito_sqlite import acts, sql
from taskito_sqlite.relations import Ripples, end

#: What ENQUEUE does not take, in one call per job: a batch without any of it must not pay for it.
_relations = operator.attrgetter("parents", "lane", "unique_key", "concurrency_key", "expires", "expires_at")
_NO_RELATIONS = ((), "", None, None, None, None)


class SentBefore(Exception):
    """Some of the ids are stored already: roll back and insert one by one."""


class Stored(NamedTuple):
    receipts: list[Receipt]
    queues: set[str]  #: that have jobs to claim which they had not, or to sweep


def insert(connection: sqlite3.Connection, jobs: Sequence[NewJob], now: int) -> Stored:
    """Insert all jobs; raises SentBefore if one of the ids is stored, or is there twice."""
    if any(map(_has_relations, jobs)):
        return insert_again(connection, jobs, now)
    inserted = connection.executemany(sql.ENQUEUE, [_row(job, now) for job in jobs]).rowcount
    if inserted != len(jobs):
        raise SentBefore
    return Stored([Receipt(job.id, True) for job in jobs], {job.queue for job in jobs})


def insert_again(connection: sqlite3.Connection, jobs: Sequence[NewJob], now: int) -> Stored:
    """Insert those jobs whose ids are not stored, with all that they are related to."""
    ids = json.dumps([job.id for job in jobs])
    stored = {row[0] for row in connection.execute(sql.STORED, (ids,))}
    stand_ins: dict[str, str] = {}  # ids of the batch -> the job that holds their unique key
    ripples = Ripples(connection, now)
    receipts = []
    dropping: list[NewJob] = []
    for job in jobs:
        if job.id in stored:
            receipts.append(Receipt(job.id, False))
            continue
        if (holder := _holder(connection, job)) is not None:
            stand_ins[job.id] = holder
            receipts.append(Receipt(holder, False))
            continue
        receipts.append(Receipt(job.id, True))
        stored.add(job.id)
        if _has_relations(job):
            parents = tuple(stand_ins.get(parent, parent) for parent in job.parents)
            _insert_related(connection, replace(job, parents=parents), now, ripples)
            if job.drop_excess and job.concurrency_key is not None:
                dropping.append(job)
        else:
            connection.execute(sql.ENQUEUE, _row(job, now))
            ripples.queues.add(job.queue)
    ripples.settle()
    for job in dropping:
        _drop_if_in_line(connection, job, now)
    return Stored(receipts, ripples.settle().queues)


def insert_copy(connection: sqlite3.Connection, job: NewJob, now: int, replay_of: str) -> Stored:
    """Insert one job that repeats another, unless it was inserted before."""
    if connection.execute(sql.STORED, (json.dumps([job.id]),)).fetchone() is not None:
        return Stored([Receipt(job.id, False)], set())
    if (holder := _holder(connection, job)) is not None:
        return Stored([Receipt(holder, False)], set())
    ripples = Ripples(connection, now)
    _insert_related(connection, job, now, ripples, replay_of)
    return Stored([Receipt(job.id, True)], ripples.settle().queues)


def _has_relations(job: NewJob) -> bool:
    """Is more said of this job than ENQUEUE takes?"""
    return _relations(job) != _NO_RELATIONS


def _holder(connection: sqlite3.Connection, job: NewJob) -> str | None:
    if job.unique_key is None:
        return None
    found = connection.execute(acts.HOLDER, (job.unique_key,)).fetchone()
    return None if found is None else str(found[0])


def _insert_related(
    connection: sqlite3.Connection,
    job: NewJob,
    now: int,
    ripples: Ripples,
    replay_of: str | None = None,
) -> None:
    """Insert a job behind the gate that it belongs behind. Places are given out afterwards."""
    states = _parent_states(connection, job) if job.parents else {}
    failed = [] if job.tolerant else [one for one in states.items() if one[1] in ("dead", "cancelled")]
    gate = None
    if any(status in ("pending", "running") for status in states.values()):
        gate = "parents"
    elif job.concurrency_key is not None:
        gate = "key" if _due(job, now) <= now else "later"
        ripples.look_at(job.concurrency_key)
    elif not failed:
        ripples.queues.add(job.queue)
    expires_at = job.expires_at
    if expires_at is None and job.expires is not None:
        expires_at = now + round(job.expires * 1000)
    if gate == "later" or expires_at is not None:
        ripples.queues.add(job.queue)  # There is nothing to claim, but something to sweep, perhaps soon.
    extra = (job.lane, gate, expires_at, job.unique_key, job.concurrency_key, job.concurrency, replay_of)
    connection.execute(sql.ENQUEUE_WHOLE, (*_row(job, now), *extra))
    connection.executemany(acts.ADD_EDGE, [(job.id, parent, job.tolerant) for parent in states])
    if failed:
        parent, status = min(failed)
        end(connection, [job.id], f"parent {parent} was {status}", now)
    elif gate == "parents":
        connection.execute(acts.FOLLOW, (json.dumps(list(states)),))


def _parent_states(connection: sqlite3.Connection, job: NewJob) -> dict[str, str]:
    states = dict(connection.execute(acts.STATES, (json.dumps(job.parents),)).fetchall())
    if missing := [parent for parent in job.parents if parent not in states]:
        listed = ", ".join(missing[:5])
        raise JobNotFoundError(
            f"job {job.id} depends on what is not stored: {listed}; "
            "enqueue parents first, or before it in the same batch"
        )
    return states


def _drop_if_in_line(connection: sqlite3.Connection, job: NewJob, now: int) -> None:
    if connection.execute(acts.IN_LINE, (job.id,)).fetchone()[0]:
        reason = f"dropped: all {job.concurrency} places of {job.concurrency_key!r} are taken"
        end(connection, [job.id], reason, now)


def _due(job: NewJob, now: int) -> int:
    if job.scheduled_at is not None:
        return job.scheduled_at
    return now + round(job.delay * 1000) if job.delay else now


def _row(job: NewJob, now: int) -> tuple[object, ...]:
    return (
        job.id,
        job.task_name,
        job.queue,
        job.priority,
        now,
        _due(job, now),
        job.max_retries,
        job.timeout,
        job.result_ttl,
        json.dumps(job.tags, ensure_ascii=False) if job.tags else None,
        job.metadata,
        job.payload,
    )
