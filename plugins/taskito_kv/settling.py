"""How the memory store records the end of an attempt."""

from __future__ import annotations

from taskito_core import Cancelled, Complete, Dead, Gate, Job, JobStatus, Outcome, Retry, messages
from taskito_kv import gates
from taskito_kv.store import Store, milliseconds


def settle(store: Store, outcome: Outcome, now: int) -> bool:
    """Record one outcome; True if it is in the store now, by this call or an earlier sending."""
    job = store.jobs.get(outcome.job_id)
    if job is None:
        return False
    if job.status is not JobStatus.RUNNING or job.token != outcome.token:
        return _recorded_before(store, job, outcome)
    if isinstance(outcome, Complete):
        changes = {"result": outcome.result, "error": None, "started_at": outcome.started_at}
        gates.end(store, job, JobStatus.COMPLETE, now, **changes)
    elif isinstance(outcome, Dead):
        _settle_dead(store, job, outcome, now)
    elif isinstance(outcome, Cancelled):
        gates.end(store, job, JobStatus.CANCELLED, now, error=outcome.error, started_at=outcome.started_at)
    elif isinstance(outcome, Retry):
        _settle_retry(store, job, outcome, now)
    else:
        if outcome.delay is not None:
            job = store.put(job, expires_at=None)
        hand_back(store, job, now, outcome.delay)
        if outcome.lane is not None:
            store.lanes[job.id] = outcome.lane
    return True


def _settle_dead(store: Store, job: Job, outcome: Dead, now: int) -> None:
    store.add_error(job, outcome.token, outcome.error, now)
    gates.end(
        store,
        job,
        JobStatus.DEAD,
        now,
        error=outcome.error.summary,
        started_at=outcome.started_at,
        **store.charged(job, outcome.charge),
    )
    store.bury(store.jobs[job.id], outcome.reason, outcome.error, now)


def _settle_retry(store: Store, job: Job, outcome: Retry, now: int) -> None:
    if job.cancel_asked:
        error = messages.CANCELLED_WHILE_RUNNING
        gates.end(store, job, JobStatus.CANCELLED, now, error=error, started_at=outcome.started_at)
        return
    store.add_error(job, outcome.token, outcome.error, now)
    failed = store.put(
        job,
        error=outcome.error.summary,
        started_at=outcome.started_at,
        expires_at=None,  # it has started
        **store.charged(job, outcome.charge),
    )
    hand_back(store, failed, now, outcome.delay)


def hand_back(store: Store, job: Job, now: int, delay: float | None = None) -> None:
    """Running to pending, or cancelled if that was asked for. It keeps its slot unless it is due later."""
    if job.cancel_asked:
        gates.end(store, job, JobStatus.CANCELLED, now, error=messages.CANCELLED_WHILE_RUNNING)
        return
    due = job.scheduled_at if delay is None else now + milliseconds(delay)
    if delay is not None:
        store.delayed_at[job.id] = now
    job = store.put(job, status=JobStatus.PENDING, token=None, scheduled_at=due)
    if delay and job.concurrency_key is not None:
        store.put(job, gate=Gate.LATER)
        gates.review_key(store, job)


def interrupt(store: Store, job: Job, now: int) -> None:
    """Take a running job from a worker that is gone."""
    error = messages.worker_lost(job.worker)
    store.add_error(job, job.token or 0, error, now)
    # It loses its token, also if it ends here: what its worker may still send is fenced.
    lost = store.put(
        job, error=error.summary, interruptions=job.interruptions + 1, expires_at=None, token=None
    )
    hand_back(store, lost, now)


def _recorded_before(store: Store, job: Job, outcome: Outcome) -> bool:
    """True if this same outcome was sent and recorded before; any other one with its token is fenced."""
    same_end = job.token == outcome.token
    if isinstance(outcome, Complete):
        return job.status is JobStatus.COMPLETE and same_end
    if isinstance(outcome, Dead):
        return job.status is JobStatus.DEAD and same_end
    if isinstance(outcome, Retry) and any(
        # Another end of the same claim has other texts, and so has what a rescue wrote about it.
        error.token == outcome.token and (error.kind, error.type, error.message) == outcome.error[:3]
        for error in store.errors.get(job.id, [])
    ):
        return True
    return job.status is JobStatus.CANCELLED and same_end
