"""What follows from a failed attempt once the store has recorded it: a line in the worker's log, and an event
for the app's callbacks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence

from taskito.running_job.job_context import JobContext
from taskito.worker.dispatch.inflight import InFlight
from taskito.worker.ipc.failure_events import FailureEvent
from taskito_core.job import AttemptError, Charge, Dead, ErrorInfo, Retry

log = logging.getLogger("taskito.worker")

#: Lines per batch, at most; further failures are only counted.
MOST_LINES = 10


def log_failures(recorded: Iterable[InFlight]) -> None:
    """Log which attempts of this batch failed, why, and what becomes of the jobs."""
    failed = [entry for entry in recorded if isinstance(entry.outcome, Retry | Dead)]
    for entry in failed[:MOST_LINES]:
        claim, outcome = entry.claim, entry.outcome
        attempt = claim.retry_count + claim.crashes + claim.interruptions + 1
        match outcome:
            case Retry(delay=delay, error=error):
                fate = f"again in {delay:.1f} s"
            case Dead(reason=reason, error=error):
                fate = f"dead: {reason}"
            case _:
                continue
        log.warning(
            "job %s (%s) failed, attempt %d: %s; %s", claim.id, claim.task_name, attempt, error.summary, fate
        )
    if len(failed) > MOST_LINES:
        log.warning("and %d more jobs failed", len(failed) - MOST_LINES)


def log_deaths(workers: Iterable[str], rescued: Sequence[str]) -> None:
    """Log which workers were found dead, once, and which of their jobs were rescued here."""
    jobs = f"rescued {len(rescued)} jobs: {', '.join(rescued[:20])}" if rescued else "it had none left"
    log.warning("worker %s is dead; %s", ", ".join(workers), jobs)


def failure_events_of(recorded: Iterable[InFlight], worker_id: str, now: int) -> list[FailureEvent]:
    """The events of outcomes that the store recorded at ``now``, for tasks with callbacks for failures."""
    wanted = (entry for entry in recorded if entry.policy.notify)
    return [event for entry in wanted if (event := failure_event_of(entry, worker_id, now)) is not None]


def failure_event_of(entry: InFlight, worker_id: str, now: int) -> FailureEvent | None:
    """The event of one recorded outcome; None: the attempt has not failed."""
    claim = entry.claim
    match entry.outcome:
        case Retry(charge=charge, error=error) if charge is not Charge.INTERRUPTION:
            retry_count: int | None = claim.retry_count + (charge is Charge.RETRY)
        case Dead(error=error):
            retry_count = None
        case _:
            return None
    metadata = json.loads(claim.metadata) if claim.metadata else {}
    context = JobContext(claim.id, claim.task_name, claim.queue, claim.retry_count, claim.token, metadata)
    context.uncharged = claim.crashes + claim.interruptions
    return FailureEvent(context, _attempt_error(entry, error, worker_id, now), retry_count)


def _attempt_error(entry: InFlight, error: ErrorInfo, worker_id: str, now: int) -> AttemptError:
    claim = entry.claim
    attempt = claim.retry_count + claim.crashes + claim.interruptions + 1
    return AttemptError(claim.id, claim.token, attempt, *error, worker_id, now)
