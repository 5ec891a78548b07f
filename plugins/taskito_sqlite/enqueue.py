"""Storing new jobs, inside a write transaction: ours or the caller's."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from taskito_core import JobNotFoundError, NewJob, QueueFull, Receipt, columns, messages
from taskito_sqlite.commit_watch import ExpectedCommit
from taskito_sqlite.gates import Cascade, cancel_pending
from taskito_sqlite.sql import enqueue as sql
from taskito_sqlite.sql import gates
from taskito_sqlite.wakeups import WakeupsMixin

_plain_values = columns.values_of(columns.PLAIN)
_gated_values = columns.values_of(columns.GATED)


class Stored(NamedTuple):
    """What became of a batch of new jobs."""

    receipts: list[Receipt]
    queues: set[str]  #: that have jobs to claim which they had not, or something to sweep


class EnqueueMixin(WakeupsMixin):
    """``enqueue`` of the contract."""

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        """As ``Storage.enqueue``."""
        if not jobs:
            return []
        if connection is not None:
            return self._enqueue_within(connection, jobs)

        def work(
            insert: Callable[..., Stored], connection: sqlite3.Connection
        ) -> tuple[list[Receipt], set[str]]:
            stored = insert(connection, jobs, self.now())
            addresses, ceilings = self._workers_and_ceilings(connection, stored.queues)
            if ceilings:
                _refuse_too_many(connection, jobs, stored.receipts, ceilings)
            return stored.receipts, addresses

        try:
            return self._write_and_notify(functools.partial(work, insert_new))
        except SentBefore:
            return self._write_and_notify(functools.partial(work, insert))

    def _enqueue_within(self, connection: object, jobs: Sequence[NewJob]) -> list[Receipt]:
        def expected(stored: Stored) -> ExpectedCommit | None:
            inserted = [receipt.id for receipt in stored.receipts if receipt.inserted]
            # One stands for all: they are committed together.
            if not inserted or not stored.queues:
                return None
            return ExpectedCommit(inserted[0], False, frozenset(stored.queues))

        def work(found: sqlite3.Connection) -> Stored:
            return insert(found, jobs, self.now(), bounded=True)

        return self._within(connection, work, expected).receipts


class SentBefore(Exception):
    """Some of the ids are stored already: roll back and insert one by one."""


def insert_new(connection: sqlite3.Connection, jobs: Sequence[NewJob], now: int) -> Stored:
    """Insert all jobs; raises SentBefore if one of the ids is stored, or is there twice."""
    if not all(map(columns.is_plain, jobs)):
        return insert(connection, jobs, now)
    inserted = connection.executemany(sql.ENQUEUE, [_plain_row(job, now) for job in jobs]).rowcount
    if inserted != len(jobs):
        raise SentBefore
    return Stored([Receipt(job.id, True) for job in jobs], {job.queue for job in jobs})


def insert(
    connection: sqlite3.Connection, jobs: Sequence[NewJob], now: int, *, bounded: bool = False
) -> Stored:
    """Insert those jobs whose ids are not stored, behind the gates that they belong behind.

    ``bounded``: no more than their queues may hold, else QueueFull.
    """
    ids = json.dumps([job.id for job in jobs])
    known = connection.execute(sql.STORED, {"ids": ids}).fetchall()
    stored = {job_id for job_id, ceiling in known if ceiling is None}
    ceilings = {queue: ceiling for queue, ceiling in known if ceiling is not None} if bounded else {}
    holders: dict[str, str] = {}  # ids of the batch -> the job that holds their unique key
    cascade = Cascade(connection, now)
    receipts = []
    droppable: list[NewJob] = []
    for job in jobs:
        if job.id in stored:
            receipts.append(Receipt(job.id, False))
            continue
        # Before the key: a parent that is not stored is refused also if another job stands for this one.
        parents = tuple(holders.get(parent, parent) for parent in job.parents)
        statuses = _parent_statuses(connection, job.id, parents) if parents else {}
        holder = _key_holder(connection, job)
        if holder is None and job.call_key is not None:
            holder = _stands_for_call(connection, job, now, cascade)
        if holder is not None:
            holders[job.id] = holder
            receipts.append(Receipt(holder, False))
            continue
        receipts.append(Receipt(job.id, True))
        stored.add(job.id)
        if columns.is_plain(job):
            connection.execute(sql.ENQUEUE, _plain_row(job, now))
            cascade.queues.add(job.queue)
        else:
            _insert_gated(connection, job, statuses, now, cascade)
            if job.drop_excess and job.concurrency_key is not None:
                droppable.append(job)
    cascade.run()
    for job in droppable:
        _drop_if_at_key(connection, job, now)
    queues = cascade.run().queues
    if ceilings:
        _refuse_too_many(connection, jobs, receipts, ceilings)
    return Stored(receipts, queues)


def _refuse_too_many(
    connection: sqlite3.Connection,
    jobs: Sequence[NewJob],
    receipts: Sequence[Receipt],
    ceilings: Mapping[str, int],
) -> None:
    """QueueFull if these jobs are too many for a queue; the transaction is then rolled back."""
    inserted = Counter(job.queue for job, one in zip(jobs, receipts, strict=True) if one.inserted)
    for queue in sorted(ceilings.keys() & inserted.keys()):
        values = {"queue": queue, "limit": ceilings[queue] + 1}
        [pending] = connection.execute(sql.PENDING, values).fetchone()
        if pending > ceilings[queue]:
            said = messages.QUEUE_FULL.format(queue=queue, ceiling=ceilings[queue], count=inserted[queue])
            raise QueueFull(said)


def _key_holder(connection: sqlite3.Connection, job: NewJob) -> str | None:
    if job.unique_key is None:
        return None
    found = connection.execute(sql.KEY_HOLDER, {"unique_key": job.unique_key}).fetchone()
    return None if found is None else str(found[0])


def _stands_for_call(connection: sqlite3.Connection, job: NewJob, now: int, cascade: Cascade) -> str | None:
    """The job that stands for this call because of its key; None: that is this one, which is noted."""
    found = connection.execute(sql.LAST_CALL, {"key": job.call_key}).fetchone()
    until = _due(job, now) if job.window is None else now + round(job.window * 1000)
    standing = job.id
    if found is not None:
        stored, call_id, lasts = found
        if call_id == job.id or (job.window is not None and now < lasts):
            return str(stored)
        if job.window is None and _put_off(connection, stored, job, now, cascade):
            standing = stored
    values = {"key": job.call_key, "job_id": standing, "call_id": job.id, "now": now, "until": until}
    connection.execute(sql.PUT_CALL, values)
    return None if standing == job.id else standing


def _put_off(connection: sqlite3.Connection, standing: str, job: NewJob, now: int, cascade: Cascade) -> bool:
    """Make a pending job what this call says, due when it says; False if it is pending no more."""
    before = connection.execute(sql.KEY_OF, {"id": standing}).fetchone()
    if before is None:
        return False
    _, scheduled_at, delayed_at, *plain = _plain_row(job, now)
    expires_at, expires_from = _expiry(job, now)
    values = dict(zip((column.name for column in columns.PLAIN), plain, strict=True))
    values |= {
        "id": standing,
        "scheduled_at": scheduled_at,
        "delayed_at": delayed_at,
        "expires_at": expires_at,
        "expires_from": expires_from,
        "concurrency_key": job.concurrency_key,
        "concurrency": job.concurrency,
    }
    [[queue]] = connection.execute(sql.PUT_OFF, values).fetchall()
    cascade.queues.add(queue)
    for key in {before[0], job.concurrency_key} - {None}:
        cascade.check_key(key)
    return True


def _insert_gated(
    connection: sqlite3.Connection, job: NewJob, statuses: dict[str, str], now: int, cascade: Cascade
) -> None:
    """Insert a job behind its gate, given its parents' statuses. The cascade gives out slots afterwards."""
    failed = [] if job.tolerant else [one for one in statuses.items() if one[1] in ("dead", "cancelled")]
    gate = None
    if any(status in ("pending", "running") for status in statuses.values()):
        gate = "parents"
    elif job.concurrency_key is not None:
        gate = "key" if _due(job, now) <= now else "later"
        cascade.check_key(job.concurrency_key)
    elif not failed:
        cascade.queues.add(job.queue)
    expires_at, expires_from = _expiry(job, now)
    if gate == "later" or expires_at is not None:
        cascade.queues.add(job.queue)  # There is nothing to claim, but something to sweep, perhaps soon.
    row = (*_plain_row(job, now), gate, expires_at, expires_from, *_gated_values(job))
    connection.execute(sql.ENQUEUE_FULL, row)
    connection.executemany(gates.ADD_EDGES, [{"id": job.id, "parent": parent} for parent in statuses])
    if failed:
        parent, status = min(failed)
        reason = messages.PARENT_FAILED.format(parent=parent, status=status)
        cancel_pending(connection, [job.id], reason, now)
    elif gate == "parents":
        connection.execute(gates.MARK_FOLLOWED, {"ids": json.dumps(list(statuses))})


def _parent_statuses(connection: sqlite3.Connection, job_id: str, parents: Sequence[str]) -> dict[str, str]:
    statuses = dict(connection.execute(sql.STATUSES, {"ids": json.dumps(parents)}).fetchall())
    if missing := [parent for parent in parents if parent not in statuses]:
        raise JobNotFoundError(messages.missing_parents(job_id, missing))
    return statuses


def _drop_if_at_key(connection: sqlite3.Connection, job: NewJob, now: int) -> None:
    if connection.execute(sql.IS_AT_KEY, {"id": job.id}).fetchone()[0]:
        reason = messages.DROPPED.format(concurrency=job.concurrency, key=job.concurrency_key)
        cancel_pending(connection, [job.id], reason, now)


def _expiry(job: NewJob, now: int) -> tuple[int | None, int | None]:
    """When it is cancelled if it has not started, and from when that was counted."""
    if job.expires_at is None and job.expires is not None:
        return now + round(job.expires * 1000), now
    return job.expires_at, None


def _due(job: NewJob, now: int) -> int:
    if job.scheduled_at is not None:
        return job.scheduled_at
    return now + round(job.delay * 1000) if job.delay else now


def _plain_row(job: NewJob, now: int) -> tuple[object, ...]:
    delayed_at = now if job.delay and job.scheduled_at is None else None
    return (now, _due(job, now), delayed_at, *_plain_values(job))
