"""A clock that was set back: what was written ahead is moved.

What has happened cannot be later than now, so a row that says so was written by the clock of before: it moves
back by as much. A moment that somebody named stays, unless it was named then and had come.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from taskito_core import Job, JobStatus
from taskito_kv.store import Store

#: Milliseconds that a clock may go back without having been set.
SWING = 2000


def see(store: Store, now: int, expected: int) -> None:
    """At each heartbeat: how far the clock has come, or would have, had it not been set back."""
    behind = store.latest > now + SWING
    store.latest = max(store.latest, now, expected if behind else 0)


def move_back(store: Store, now: int) -> int:
    """By how many milliseconds the clock was set back; 0 if it was not."""
    ahead = max([store.latest, *(job.created_at for job in store.jobs.values())])
    if ahead <= now + SWING:
        return 0
    by = ahead - now
    clock = _Clock(now, by)
    for job in list(store.jobs.values()):
        _move(store, job, clock)
    for letter in list(store.letters.values()):
        created_at, failed_at = clock.happened(letter.created_at), clock.happened(letter.failed_at)
        store.letters[letter.job_id] = replace(letter, created_at=created_at, failed_at=failed_at)
    for worker in list(store.workers.values()):
        seen, started = clock.happened(worker.last_seen), clock.happened(worker.started_at)
        store.workers[worker.id] = replace(worker, last_seen=seen, started_at=started)
    for name, state in store.periodic.items():
        store.periodic[name] = state._replace(registered_at=min(state.registered_at, now))
    for key, bucket in store.buckets.items():
        store.buckets[key] = bucket._replace(refilled_at=min(bucket.refilled_at, now))
    for key, call in store.calls.items():
        if call.called_at > now:
            until = min(call.until - by, now + call.until - call.called_at)
            store.calls[key] = call._replace(until=until, called_at=clock.happened(call.called_at))
    for queue, bucket in store.queue_buckets.items():
        store.queue_buckets[queue] = bucket._replace(refilled_at=min(bucket.refilled_at, now))
    for task, (breaker, options) in store.breakers.items():
        opened_at = None if breaker.opened_at is None else clock.happened(breaker.opened_at)
        store.breakers[task] = breaker._replace(opened_at=opened_at), options
    store.latest = now
    store.wake({job.queue for job in store.claimable() if job.scheduled_at <= now})
    return by


class _Clock:
    """What it shows now, and by how much it was set back."""

    def __init__(self, now: int, by: int) -> None:
        self.now = now
        self.by = by

    def happened(self, moment: int) -> int:
        """When that was which happened at this moment of the clock of before."""
        return min(moment - self.by, self.now) if moment > self.now else moment

    def counted(self, moment: int, since: int) -> int:
        """When a wait is over that was counted from ``since``."""
        return min(moment - self.by, self.now + moment - since) if since > self.now else moment

    def due(self, job: Job) -> int:
        """When that is due which somebody named a moment for, or which was due at once."""
        named_then = job.created_at > self.now and job.scheduled_at <= max(self.now + self.by, job.created_at)
        had_come = named_then or job.scheduled_at <= (job.claimed_at or 0)
        return self.happened(job.scheduled_at) if had_come else job.scheduled_at


def _move(store: Store, job: Job, clock: _Clock) -> None:
    changes: dict[str, Any] = {"created_at": clock.happened(job.created_at)}
    for name in ("claimed_at", "started_at", "completed_at"):
        moment = getattr(job, name)
        changes[name] = None if moment is None else clock.happened(moment)
    if job.status in (JobStatus.PENDING, JobStatus.RUNNING):
        delayed_at = store.delayed_at.get(job.id, 0)
        if delayed_at > clock.now:
            changes["scheduled_at"] = clock.counted(job.scheduled_at, delayed_at)
            store.delayed_at[job.id] = clock.happened(delayed_at)
        else:
            changes["scheduled_at"] = clock.due(job)
        if job.expires_at is not None and store.given[job.id].expires_at is None:
            changes["expires_at"] = clock.counted(job.expires_at, job.created_at)
    store.put(job, **changes)
