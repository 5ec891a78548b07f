"""How the memory store runs a finished job again, as a new one."""

from __future__ import annotations

from taskito_core import DeadLetter, Job, NewJob, Receipt, Replay
from taskito_kv.inserting import insert
from taskito_kv.store import Past, Store


def replay(store: Store, job: Job, new_id: str, now: int) -> Receipt:
    """Enqueue the job again under ``new_id``, and write it down if that did anything."""
    receipt = insert(store, [_as_new(store, job, new_id, now)], now)[0]
    if receipt.inserted:
        store.past.append(Past(job.id, new_id, now, job.status, job.error))
    return receipt


def retry_letter(store: Store, letter: DeadLetter, new_id: str, now: int) -> Receipt:
    """The same from a dead letter, which goes if that did anything."""
    job = store.jobs.get(letter.job_id)
    if job is not None:
        receipt = replay(store, job, new_id, now)
    else:
        receipt = insert(store, [_from_letter(letter, new_id)], now)[0]
    if receipt.inserted:
        del store.letters[letter.job_id]
    return receipt


def history(store: Store, job_id: str) -> list[Replay]:
    """What came of replaying this job, oldest first."""
    return [_as_replay(past, store.jobs.get(past.new_id)) for past in store.past if past.job_id == job_id]


def _as_replay(past: Past, job: Job | None) -> Replay:
    if job is None:
        return Replay(*past, status=None, error=None, result=None)
    return Replay(*past, status=job.status, error=job.error, result=job.result)


def _as_new(store: Store, job: Job, new_id: str, now: int) -> NewJob:
    return NewJob(
        id=new_id,
        task_name=job.task_name,
        payload=job.payload,
        queue=job.queue,
        priority=job.priority,
        max_retries=job.max_retries,
        timeout=job.timeout,
        result_ttl=job.result_ttl,
        metadata=job.metadata,
        tags=job.tags,
        lane=store.lanes[job.id],
        expires_at=None if job.expires_at is None else now + job.expires_at - job.created_at,
        unique_key=job.unique_key,
        concurrency_key=job.concurrency_key,
        concurrency=store.asked[job.id].concurrency,
    )


def _from_letter(letter: DeadLetter, new_id: str) -> NewJob:
    return NewJob(
        id=new_id,
        task_name=letter.task_name,
        payload=letter.payload,
        queue=letter.queue,
        priority=letter.priority,
        max_retries=letter.max_retries,
        timeout=letter.timeout,
        result_ttl=letter.result_ttl,
        metadata=letter.metadata,
        tags=letter.tags,
    )
