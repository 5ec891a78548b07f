"""How an attempt's end is written down in the memory store."""

from __future__ import annotations

from taskito_core.job import Complete, Dead, ErrorInfo, ErrorKind, Job, JobStatus, Outcome, Retry
from taskito_core.memory.store import Store, milliseconds


def settle(store: Store, outcome: Outcome, now: int) -> bool:
    """Record one outcome; True if it is in the store now, by this call or an earlier sending."""
    job = store.jobs.get(outcome.job_id)
    if job is None:
        return False
    if job.status is not JobStatus.RUNNING or job.token != outcome.token:
        return _recorded_before(store, job, outcome)
    if isinstance(outcome, Complete):
        store.put(
            job,
            status=JobStatus.COMPLETE,
            result=outcome.result,
            started_at=outcome.started_at,
            completed_at=now,
        )
    elif isinstance(outcome, Retry):
        store.add_error(job, outcome.token, outcome.error, now)
        store.put(
            job,
            status=JobStatus.PENDING,
            token=None,
            error=outcome.error.summary,
            started_at=outcome.started_at,
            scheduled_at=now + milliseconds(outcome.delay),
            **store.charged(job, outcome.charge),
        )
    elif isinstance(outcome, Dead):
        store.add_error(job, outcome.token, outcome.error, now)
        dead = store.put(
            job,
            status=JobStatus.DEAD,
            error=outcome.error.summary,
            started_at=outcome.started_at,
            completed_at=now,
            **store.charged(job, outcome.charge),
        )
        store.bury(dead, outcome.reason, outcome.error, now)
    else:
        store.put(job, status=JobStatus.PENDING, token=None)
        if outcome.lane is not None:
            store.lanes[job.id] = outcome.lane
    return True


def _recorded_before(store: Store, job: Job, outcome: Outcome) -> bool:
    """Whether this same outcome was sent and recorded before; any other one with its token is fenced."""
    if isinstance(outcome, Complete):
        return job.status is JobStatus.COMPLETE and job.token == outcome.token
    if isinstance(outcome, Dead):
        return job.status is JobStatus.DEAD and job.token == outcome.token
    if isinstance(outcome, Retry):
        # The kind tells a retry from what a rescue wrote about the same claim.
        return any(
            error.token == outcome.token and error.kind is outcome.error.kind
            for error in store.errors.get(job.id, [])
        )
    return False


def interrupt(store: Store, job: Job, now: int) -> None:
    """Take a running job from a worker that is gone."""
    error = ErrorInfo(ErrorKind.INTERRUPTED, "WorkerLost", f"worker {job.worker} is gone")
    store.add_error(job, job.token or 0, error, now)
    store.put(
        job,
        status=JobStatus.PENDING,
        token=None,
        error=error.summary,
        interruptions=job.interruptions + 1,
    )
