"""How new jobs get into the memory store: all or none, each id and each unique key once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from taskito_core import Gate, Job, JobNotFoundError, JobStatus, NewJob, Receipt, StorageError
from taskito_kv import gates
from taskito_kv.store import Store, milliseconds


def insert(store: Store, jobs: Sequence[NewJob], now: int) -> list[Receipt]:
    """Store the jobs, and open those that nothing keeps back."""
    for new in jobs:
        _refuse_unstorable(new)
    receipts: list[Receipt] = []
    stand_ins: dict[str, str] = {}
    try:
        for new in jobs:
            receipts.append(_insert_one(store, new, stand_ins, now))
            stand_ins[new.id] = receipts[-1].id
    except JobNotFoundError:
        for receipt in receipts:
            if receipt.inserted:
                store.delete(receipt.id)
        store.stirred.clear()
        raise
    gates.let_in(store, now)
    inserted = [new for new, receipt in zip(jobs, receipts, strict=True) if receipt.inserted]
    for new in inserted:
        _drop_if_in_excess(store, new, now)
    store.ring({new.queue for new in inserted})
    return receipts


def _insert_one(store: Store, new: NewJob, stand_ins: dict[str, str], now: int) -> Receipt:
    """``stand_ins`` are the ids that stand for the jobs of the batch so far."""
    if new.id in store.jobs:
        return Receipt(new.id, False)
    holder = store.holder_of(new.unique_key)
    if holder is not None:
        return Receipt(holder.id, False)
    # A parent that was not inserted because its unique key is held: the child waits for the holder.
    parents = [parent if parent in store.jobs else stand_ins.get(parent, parent) for parent in new.parents]
    for parent in parents:
        if parent not in store.jobs:
            raise JobNotFoundError(f"job {new.id} has the parent {parent}, which is not stored")
    store.jobs[new.id] = _fresh_job(new, now)
    store.asked[new.id] = new
    store.lanes[new.id] = new.lane
    if parents:
        store.edges[new.id] = tuple(dict.fromkeys(parents))
    gates.pass_parents(store, store.jobs[new.id], now)
    return Receipt(new.id, True)


def _drop_if_in_excess(store: Store, new: NewJob, now: int) -> None:
    job = store.jobs[new.id]
    if new.drop_excess and job.gate == Gate.KEY:
        error = f"dropped: all {new.concurrency} places of '{new.concurrency_key}' are taken"
        gates.end(store, job, JobStatus.CANCELLED, now, error=error)
        gates.let_in(store, now)


def _fresh_job(new: NewJob, now: int) -> Job:
    due = now + milliseconds(new.delay) if new.scheduled_at is None else new.scheduled_at
    expires_at = new.expires_at
    if expires_at is None and new.expires is not None:
        expires_at = now + milliseconds(new.expires)
    return Job(
        id=new.id,
        task_name=new.task_name,
        queue=new.queue,
        status=JobStatus.PENDING,
        payload=new.payload,
        result=None,
        error=None,
        priority=new.priority,
        created_at=now,
        scheduled_at=due,
        claimed_at=None,
        started_at=None,
        completed_at=None,
        retry_count=0,
        max_retries=new.max_retries,
        crashes=0,
        interruptions=0,
        timeout=new.timeout,
        result_ttl=new.result_ttl,
        worker=None,
        token=None,
        metadata=new.metadata,
        tags=new.tags,
        gate=Gate.PARENTS,
        expires_at=expires_at,
        unique_key=new.unique_key,
        concurrency_key=new.concurrency_key,
    )


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
