"""How the memory store runs a finished job again, as a new one."""

from __future__ import annotations

import re
from dataclasses import replace

from taskito_core import DeadLetter, Gate, Job, JobStatus, LogEntry, Receipt, Replay, messages, new_id
from taskito_kv.inserting import insert
from taskito_kv.store import Replayed, Store


def replay(store: Store, job: Job, new_id: str, now: int) -> Receipt:
    """Enqueue the job again under ``new_id``; if that inserted it, also write the history."""
    receipt = insert(store, [replace(store.repeatable(job), id=new_id)], now)[0]
    if receipt.inserted:
        _follow(store, Replayed(job.id, new_id, now, job.status, job.error))
    return receipt


def retry_letter(store: Store, letter: DeadLetter, new_id: str, now: int) -> Receipt:
    """The same from a dead letter; if that inserted a job, the letter is removed."""
    again = replace(store.buried[letter.job_id], id=new_id)
    receipt = insert(store, [again], now)[0]
    if receipt.inserted:
        _follow(store, Replayed(letter.job_id, new_id, now, JobStatus.DEAD, letter.error))
        store.drop_letter(letter.job_id)
    return receipt


def _follow(store: Store, past: Replayed) -> None:
    """What the replay of a job means for its parents and children; and write it down."""
    _keep_parents(store, past.job_id, past.new_id)
    _retarget(store, past.job_id, past.new_id)
    parents = [past.new_id]
    for parent in parents:  # grows: what is revived has dependants of its own
        for child in store.children(parent):
            if _was_cancelled_for_parent(child) and _revive(store, child, past):
                parents.append(child.id)
    store.replays.append(past)


def _keep_parents(store: Store, job_id: str, replay: str) -> None:
    for parent in store.parents_of(job_id):
        if parent.status is JobStatus.COMPLETE or (
            parent.status.finished and job_id in store.given and store.given[job_id].tolerant
        ):
            store.edges[replay] = (*store.edges.get(replay, ()), parent.id)
            if (old := store.replay_of.get((job_id, parent.id))) is not None:
                store.replay_of[replay, parent.id] = old


def _retarget(store: Store, job_id: str, replay: str) -> None:
    """What was cancelled because of the job, or of a replay of it that failed too, depends on this replay."""
    tried = [job_id]
    for one in tried:
        tried += [past.new_id for past in store.replays if past.job_id == one]
    for old in tried:
        if old in store.jobs and not _has_failed(store.jobs[old]):
            continue
        for child in store.children(old):
            if _was_cancelled_for_parent(child):
                parents = (replay if parent == old else parent for parent in store.edges[child.id])
                store.edges[child.id] = tuple(dict.fromkeys(parents))
                first = store.replay_of.pop((child.id, old), old)
                store.replay_of.setdefault((child.id, replay), first)


def _revive(store: Store, job: Job, past: Replayed) -> bool:
    """Have a cancelled job wait for its parents again; False if one has failed, or its key is held."""
    if failed := sorted(parent.id for parent in store.parents_of(job.id) if _has_failed(parent)):
        status = store.jobs[failed[0]].status
        store.put(job, error=messages.PARENT_FAILED.format(parent=failed[0], status=status))
        return False
    if store.holder_of(job.unique_key) is not None:
        return False
    now = past.replayed_at
    expires_at = None if job.expires_at is None else now + max(job.expires_at - job.created_at, 0)
    store.put(
        job,
        status=JobStatus.PENDING,
        gate=Gate.PARENTS,
        completed_at=None,
        error=None,
        expires_at=expires_at,
    )
    said = messages.REVIVED.format(job=past.job_id, replay=past.new_id, error=job.error)
    entry = LogEntry(new_id(), job.id, job.task_name, 0, now, "info", said, None)
    store.logs[entry.id] = entry
    return True


def _has_failed(job: Job) -> bool:
    return job.status.finished and job.status is not JobStatus.COMPLETE


def _was_cancelled_for_parent(job: Job) -> bool:
    pattern = messages.PARENT_FAILED.format(parent=".+", status=".+")
    return (
        job.status is JobStatus.CANCELLED
        and job.token is None
        and re.fullmatch(pattern, job.error or "") is not None
    )


def history(store: Store, job_id: str) -> list[Replay]:
    """The replays in which this job is the old one or the new one, oldest first."""
    found = [one for one in store.replays if job_id in (one.job_id, one.new_id)]
    return [_as_replay(one, store.jobs.get(one.new_id)) for one in found]


def _as_replay(past: Replayed, job: Job | None) -> Replay:
    if job is None:
        return Replay(*past, status=None, error=None, result=None)
    return Replay(*past, status=job.status, error=job.error, result=job.result)
