"""What keeps a pending job of the memory store from being claimed: parents, and the slots of its key.

Every live job of a key that has no gate holds a slot. A change that frees a slot, or adds a job that wants
one, calls ``review_key``; ``give_slots`` hands the slots out once the call has done everything else.
"""

from __future__ import annotations

from typing import Any

from taskito_core import Gate, Job, JobStatus, messages
from taskito_kv.store import Store, in_order


def end(store: Store, job: Job, status: JobStatus, now: int, **changes: Any) -> list[str]:
    """Finish a job, the only way there is; the ids of the dependants that are cancelled with it."""
    ended = [_end_alone(store, job, status, now, **changes)]
    for parent in ended:  # grows: what is cancelled has dependants of its own
        for child in store.children(parent.id):
            if child.gate == Gate.PARENTS and (cancelled := pass_parents(store, child, now)):
                ended.append(cancelled)
    return [child.id for child in ended[1:]]


def _end_alone(store: Store, job: Job, status: JobStatus, now: int, **changes: Any) -> Job:
    store.forced.discard(job.id)
    review_key(store, job)
    return store.put(job, status=status, completed_at=now, gate=None, cancel_asked=False, **changes)


def pass_parents(store: Store, job: Job, now: int) -> Job | None:
    """Open the gate of its parents if they have finished; the job if it was cancelled because of one."""
    parents = store.parents_of(job.id)
    if not store.given[job.id].tolerant:
        for parent in parents:
            if parent.status.finished and parent.status is not JobStatus.COMPLETE:
                reason = messages.PARENT_FAILED.format(parent=parent.id, status=parent.status)
                return _end_alone(store, job, JobStatus.CANCELLED, now, error=reason)
    if all(parent.status.finished for parent in parents):
        pass_key(store, job, now)
    return None


def pass_key(store: Store, job: Job, now: int) -> Job:
    """Open the job, or put it behind the gate of its key if it has one. Parents keep it no longer."""
    if job.concurrency_key is None:
        store.wake({job.queue})
        return store.put(job, gate=None)
    review_key(store, job)
    return store.put(job, gate=Gate.LATER if job.scheduled_at > now else Gate.KEY)


def review_key(store: Store, job: Job) -> None:
    """Have ``give_slots`` review the key of this job, if it has one."""
    if job.concurrency_key is not None:
        store.keys_to_review.add(job.concurrency_key)


def give_slots(store: Store, now: int) -> None:
    """Give the free slots of the keys under review to due jobs, best first. The last step of every call."""
    for key in store.keys_to_review:
        due = [
            job
            for job in store.pending()
            if job.concurrency_key == key
            and job.gate in (Gate.LATER, Gate.KEY)
            and job.scheduled_at <= now
            and not has_expired(job, now)
        ]
        for job in sorted(due, key=in_order):
            if len(holders(store, key)) < concurrency(store, job):
                store.put(job, gate=None)
                store.wake({job.queue})
            else:
                store.put(job, gate=Gate.KEY)
    store.keys_to_review.clear()


def concurrency(store: Store, job: Job) -> int:
    return store.given[job.id].concurrency or 0


def holders(store: Store, key: str) -> list[Job]:
    """The jobs that hold the slots of this key."""
    return [
        job
        for job in store.jobs.values()
        if job.concurrency_key == key and not job.status.finished and job.gate is None
    ]


def has_expired(job: Job, now: int) -> bool:
    return job.expires_at is not None and job.expires_at <= now


def sweep_at(store: Store) -> int | None:
    """When the next pending job expires, or falls due behind ``Gate.LATER``."""
    moments = [job.expires_at for job in store.pending() if job.expires_at is not None]
    moments += [job.scheduled_at for job in store.pending() if job.gate == Gate.LATER]
    return min(moments, default=None)
