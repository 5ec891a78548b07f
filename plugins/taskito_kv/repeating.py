"""How the memory store runs a finished job again, as a new one."""

from __future__ import annotations

from dataclasses import replace

from taskito_core import DeadLetter, Job, JobStatus, Receipt, Replay
from taskito_kv.inserting import insert
from taskito_kv.store import Replayed, Store


def replay(store: Store, job: Job, new_id: str, now: int) -> Receipt:
    """Enqueue the job again under ``new_id``; if that inserted it, also write the history."""
    receipt = insert(store, [replace(store.repeatable(job), id=new_id)], now)[0]
    if receipt.inserted:
        store.replays.append(Replayed(job.id, new_id, now, job.status, job.error))
    return receipt


def retry_letter(store: Store, letter: DeadLetter, new_id: str, now: int) -> Receipt:
    """The same from a dead letter; if that inserted a job, the letter is removed."""
    again = replace(store.buried[letter.job_id], id=new_id)
    receipt = insert(store, [again], now)[0]
    if receipt.inserted:
        store.replays.append(Replayed(letter.job_id, new_id, now, JobStatus.DEAD, letter.error))
        store.drop_letter(letter.job_id)
    return receipt


def history(store: Store, job_id: str) -> list[Replay]:
    """What came of replaying this job, oldest first."""
    return [_as_replay(one, store.jobs.get(one.new_id)) for one in store.replays if one.job_id == job_id]


def _as_replay(past: Replayed, job: Job | None) -> Replay:
    if job is None:
        return Replay(*past, status=None, error=None, result=None)
    return Replay(*past, status=job.status, error=job.error, result=job.result)
