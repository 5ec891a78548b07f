"""The sweep of the memory store: what has fallen due since the last call."""

from __future__ import annotations

from taskito_core import Gate, JobStatus, Swept, messages
from taskito_kv import clock, gates
from taskito_kv.store import Store


def sweep(store: Store, limit: int, now: int) -> Swept:
    """Cancel what has expired, and give free slots to jobs that fell due behind ``Gate.LATER``."""
    set_back = clock.move_back(store, now)
    gated = {job.id for job in store.pending() if job.gate is not None}
    expired, cancelled = _expire(store, limit, now)
    due = [job for job in store.pending() if job.gate == Gate.LATER and job.scheduled_at <= now]
    for job in sorted(due, key=lambda job: job.scheduled_at)[:limit]:
        gates.review_key(store, job)
    gates.give_slots(store, now)
    # ``end`` opens children at once, so there is never one left whose parents have all finished.
    opened = [job.id for job in store.pending() if job.id in gated and job.gate is None]
    return Swept(expired, cancelled, opened, gates.sweep_at(store), now, set_back)


def _expire(store: Store, limit: int, now: int) -> tuple[list[str], list[str]]:
    """The expired jobs, and the dependants that are cancelled with them."""
    expired: list[str] = []
    cancelled: list[str] = []
    for job in [job for job in store.pending() if gates.has_expired(job, now)]:
        # An expired parent may have cancelled it just now.
        if len(expired) < limit and job.id not in cancelled:
            cancelled += gates.end(
                store, job, JobStatus.CANCELLED, now, error=messages.expired(job.expires_at or 0)
            )
            expired.append(job.id)
    return expired, cancelled
