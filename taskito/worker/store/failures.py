"""What the worker's log says of jobs that failed: one line each, at the place where it is recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from taskito.worker.dispatch.inflight import InFlight
from taskito_core.job import Dead, Retry

log = logging.getLogger("taskito.worker")

#: Lines per batch; a flood of failures is counted and not spelled out.
MOST_LINES = 10


def log_failures(recorded: Iterable[InFlight]) -> None:
    """Say which attempts of this batch failed, why, and what becomes of the jobs."""
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
