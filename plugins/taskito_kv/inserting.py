"""How the memory store inserts new jobs: all or none, each id and each unique key once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from taskito_core import (
    Gate,
    Job,
    JobNotFoundError,
    JobStatus,
    NewJob,
    QueueFull,
    QueueLimits,
    Receipt,
    StorageError,
    messages,
)
from taskito_kv import gates
from taskito_kv.store import LastCall, Store, milliseconds


def insert(store: Store, jobs: Sequence[NewJob], now: int, *, bounded: bool = False) -> list[Receipt]:
    """Store the jobs, and open those that need not wait; ``bounded``: no more than their queues may hold."""
    for new in jobs:
        _refuse_unstorable(new)
    receipts: list[Receipt] = []
    stand_ins: dict[str, str] = {}
    before = dict(store.jobs), dict(store.given), dict(store.delayed_at), dict(store.calls)
    try:
        for new in jobs:
            receipts.append(_insert_one(store, new, stand_ins, now))
            stand_ins[new.id] = receipts[-1].id
        if bounded:
            _refuse_too_many(store, [new for new, one in zip(jobs, receipts, strict=True) if one.inserted])
    except (JobNotFoundError, QueueFull):
        for receipt in receipts:
            if receipt.inserted:
                store.delete(receipt.id)
        store.jobs, store.given, store.delayed_at, store.calls = before
        store.keys_to_review.clear()
        raise
    gates.give_slots(store, now)
    inserted = [new for new, receipt in zip(jobs, receipts, strict=True) if receipt.inserted]
    for new in inserted:
        _drop_if_in_excess(store, new, now)
    store.wake({new.queue for new in inserted})
    return receipts


def _refuse_too_many(store: Store, inserted: Sequence[NewJob]) -> None:
    for queue, count in Counter(new.queue for new in inserted).items():
        ceiling = store.limits.get(queue, QueueLimits()).max_pending
        if ceiling is not None and sum(job.queue == queue for job in store.pending()) > ceiling:
            raise QueueFull(messages.QUEUE_FULL.format(queue=queue, ceiling=ceiling, count=count))


def _insert_one(store: Store, new: NewJob, stand_ins: dict[str, str], now: int) -> Receipt:
    """``stand_ins``: of the batch so far, the id that each job's receipt names."""
    if new.id in store.jobs:
        return Receipt(new.id, False)
    # If a parent was not inserted because its unique key is held, the child waits for the holder.
    parents = [parent if parent in store.jobs else stand_ins.get(parent, parent) for parent in new.parents]
    if missing := [parent for parent in parents if parent not in store.jobs]:
        raise JobNotFoundError(messages.missing_parents(new.id, missing))
    holder = store.holder_of(new.unique_key)
    if holder is not None:
        return Receipt(holder.id, False)
    if new.call_key is not None and (standing := _stands_for_call(store, new, now)) is not None:
        return Receipt(standing, False)
    store.jobs[new.id] = _fresh_job(new, now)
    store.given[new.id] = new
    store.lanes[new.id] = new.lane
    if new.scheduled_at is None and new.delay:
        store.delayed_at[new.id] = now
    if parents:
        store.edges[new.id] = tuple(dict.fromkeys(parents))
    gates.pass_parents(store, store.jobs[new.id], now)
    return Receipt(new.id, True)


def _stands_for_call(store: Store, new: NewJob, now: int) -> str | None:
    """The job that stands for this call because of its key; None: that is this one, which is noted."""
    key = new.call_key or ""
    last = store.calls.get(key)
    until = now + milliseconds(new.delay if new.window is None else new.window)
    if last is not None:
        if last.call_id == new.id or (new.window is not None and now < last.until):
            return last.job_id
        if new.window is None and _put_off(store, last.job_id, new, now):
            store.calls[key] = LastCall(last.job_id, new.id, now, until)
            return last.job_id
    store.calls[key] = LastCall(new.id, new.id, now, until)
    return None


def _put_off(store: Store, standing: str, new: NewJob, now: int) -> bool:
    """Make a pending job what this call says, due when it says; False if it is pending no more."""
    job = store.jobs.get(standing)
    if job is None or job.status is not JobStatus.PENDING:
        return False
    gates.review_key(store, job)
    said, given = _fresh_job(new, now), store.given[standing]
    job = store.put(job, **{name: getattr(said, name) for name in _SAID})
    gates.review_key(store, job)
    store.given[standing] = replace(
        new, id=standing, lane=given.lane, parents=given.parents, tolerant=given.tolerant
    )
    if new.scheduled_at is None and new.delay:
        store.delayed_at[standing] = now
    if job.gate != Gate.PARENTS:
        store.put(job, gate=None if job.concurrency_key is None else Gate.LATER)
    return True


def _drop_if_in_excess(store: Store, new: NewJob, now: int) -> None:
    job = store.jobs[new.id]
    if new.drop_excess and job.gate == Gate.KEY:
        error = messages.DROPPED.format(concurrency=new.concurrency, key=new.concurrency_key)
        gates.end(store, job, JobStatus.CANCELLED, now, error=error)
        gates.give_slots(store, now)


#: What a new row takes over from what ``enqueue`` is given, as it is.
_GIVEN = tuple(sorted({field.name for field in fields(Job)} & {field.name for field in fields(NewJob)}))


#: What a later call may change of the job that stands for it.
_SAID = tuple({*_GIVEN, "scheduled_at", "expires_at"} - {"id", "task_name", "queue", "unique_key"})


def _fresh_job(new: NewJob, now: int) -> Job:
    row: dict[str, Any] = dict.fromkeys(field.name for field in fields(Job))
    row |= {name: getattr(new, name) for name in _GIVEN}
    row |= {"status": JobStatus.PENDING, "gate": Gate.PARENTS, "created_at": now, "cancel_asked": False}
    row |= {"retry_count": 0, "crashes": 0, "interruptions": 0}
    if new.scheduled_at is None:
        row["scheduled_at"] = now + milliseconds(new.delay)
    if new.expires_at is None and new.expires is not None:
        row["expires_at"] = now + milliseconds(new.expires)
    return Job(**row)


def _refuse_unstorable(new: NewJob) -> None:
    """What no database column takes: text that is not Unicode, integers beyond 64 bits."""
    for field in fields(new):
        value = getattr(new, field.name)
        for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
            try:
                text.encode()
            except UnicodeEncodeError as exc:
                raise StorageError(f"{field.name} of job {new.id} is not valid Unicode: {text!r}") from exc
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise StorageError(f"{field.name} of job {new.id} must fit into 64 bits, got {value}")
