"""What the memory store forgets: finished jobs, lines of logs and workers whose time is over."""

from __future__ import annotations

from taskito_core import Job, JobStatus, Pruned, WorkerStatus
from taskito_kv.store import Store, milliseconds

_DAY = 24 * 60 * 60 * 1000


def prune(store: Store, limit: int, dry_run: bool, now: int) -> Pruned:
    """Forget up to ``limit`` jobs, and as many lines; with ``dry_run`` count them only."""
    outlived = [job for job in store.jobs.values() if _has_outlived(store, job, now)]
    going = [job for job in outlived if not store.is_needed(job)][:limit]
    kept = store.retention.logs
    lines = [
        entry.id
        for entry in store.logs.values()
        if kept is not None and entry.logged_at + milliseconds(kept) <= now
    ][:limit]
    dead = sum(job.status is JobStatus.DEAD for job in going)
    pruned = Pruned(len(going) - dead, dead, len(lines))
    if dry_run:
        return pruned
    for line in lines:
        del store.logs[line]
    for job_id in [job.id for job in going]:
        store.delete(job_id)
    for key, call in list(store.calls.items()):
        job = store.jobs.get(call.job_id)
        if call.until <= now and (job is None or job.status is not JobStatus.PENDING):
            del store.calls[key]
    for worker in list(store.workers.values()):
        if worker.status is not WorkerStatus.ALIVE and worker.last_seen <= now - _DAY:
            del store.workers[worker.id]
    announce, store.announced = None if store.announced else store.retention, True
    return pruned._replace(announce=announce)


def _has_outlived(store: Store, job: Job, now: int) -> bool:
    kept = store.retention.dead if job.status is JobStatus.DEAD else store.retention.finished
    seconds = kept if job.result_ttl is None else job.result_ttl
    return (
        job.completed_at is not None
        and seconds is not None
        and job.completed_at + milliseconds(seconds) <= now
    )
