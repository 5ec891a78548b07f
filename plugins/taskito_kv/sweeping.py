"""What the memory store does when somebody asks for what nobody else did."""

from __future__ import annotations

from datetime import UTC, datetime

from taskito_core import Gate, Job, JobStatus, Swept
from taskito_kv import gates
from taskito_kv.store import Store


def sweep(store: Store, limit: int, now: int) -> Swept:
    """Cancel what has expired, and look at the keys of jobs that fell due behind ``Gate.LATER``."""
    gated = {job.id for job in store.pending() if job.gate is not None}
    expired, cancelled = _expire(store, limit, now)
    due = [job for job in store.pending() if job.gate == Gate.LATER and job.scheduled_at <= now]
    for job in sorted(due, key=lambda job: job.scheduled_at)[:limit]:
        gates.stir(store, job)
    gates.let_in(store, now)
    # Nobody but ``end`` and ``let_in`` opens jobs, so no child is ever found whose parents have all finished.
    opened = [job.id for job in store.pending() if job.id in gated and job.gate is None]
    return Swept(expired, cancelled, opened, gates.sweep_at(store), now)


def _expire(store: Store, limit: int, now: int) -> tuple[list[str], list[str]]:
    """The expired jobs, and the dependants that are cancelled with them."""
    expired: list[str] = []
    cancelled: list[str] = []
    for job in [job for job in store.pending() if gates.has_expired(job, now)]:
        # An expired parent may have taken it along just now.
        if len(expired) < limit and job.id not in cancelled:
            cancelled += gates.end(store, job, JobStatus.CANCELLED, now, error=_reason(job))
            expired.append(job.id)
    return expired, cancelled


def _reason(job: Job) -> str:
    moment = datetime.fromtimestamp((job.expires_at or 0) / 1000, UTC)
    return f"expired: not started by {moment.isoformat(timespec='milliseconds')}"
