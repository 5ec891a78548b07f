"""What may be compared of two stores with two clocks: everything but moments and the stores' own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskito_core.job import (
    AttemptError,
    Charge,
    Claim,
    Complete,
    ErrorKind,
    Job,
    Outcome,
    Release,
)
from taskito_core.storage_client import Gate, Replay
from taskito_core.storage_worker import Exchange
from taskito_testing.factories import cancelled, dead, error_info, retry

QUARTER_HOUR = 1_000_000  #: milliseconds; every delay and shift is a multiple of it


def outcome_of(claim: Claim, end: str) -> Outcome:
    error = error_info(message=f"{end} of {claim.token}")
    match end:
        case "complete":
            return Complete(claim.id, claim.token, f"result of {claim.token}".encode(), None)
        case "retry":
            return retry(claim, error=error)
        case "retry later":
            return retry(claim, 2 * QUARTER_HOUR / 1000, error=error)
        case "crash":
            return retry(claim, charge=Charge.CRASH, error=error)
        case "dead":
            return dead(claim, charge=Charge.CRASH, error=error)
        case "cancelled":
            return cancelled(claim, f"{end} of {claim.token}")
        case "release":
            return Release(claim.id, claim.token)
        case "release later":
            return Release(claim.id, claim.token, None, 2 * QUARTER_HOUR / 1000)
        case _:
            return Release(claim.id, claim.token, end.removeprefix("release to "))


def comparable_claims(answer: Exchange) -> list[Claim]:
    return [claim._replace(claimed_at=0, due_at=0) for claim in answer.claims]


def quarters_to_next(answer: Exchange) -> int | None:
    if answer.next_due is None:
        return None
    return round((answer.next_due - answer.now) / QUARTER_HOUR)


def comparable_jobs(jobs: Sequence[Job]) -> dict[str, tuple[Any, ...]]:
    return {
        job.id: (
            job.status,
            job.result,
            _comparable_reason(job),
            (job.retry_count, job.crashes, job.interruptions),
            (job.worker, job.token),
            (job.claimed_at is None, job.completed_at is None, job.expires_at is None),
            (_comparable_gate(job), job.unique_key, job.concurrency_key, job.progress, job.cancel_asked),
        )
        for job in jobs
    }


def comparable_errors(errors: Sequence[AttemptError]) -> list[tuple[Any, ...]]:
    return [
        (
            (error.job_id, error.token, error.attempt, error.kind, error.worker),
            () if error.kind is ErrorKind.INTERRUPTED else (error.type, error.message, error.traceback),
        )
        for error in errors
    ]


def comparable_peek(earliest: Mapping[str, int], now: int) -> dict[str, int]:
    return {lane: round((due - now) / QUARTER_HOUR) for lane, due in earliest.items()}


def comparable_replays(rows: Sequence[Replay]) -> list[tuple[Any, ...]]:
    return [(row.job_id, row.new_id, row.status_before, row.status, row.result) for row in rows]


def _comparable_reason(job: Job) -> str | None:
    """The words of a rescue are the store's own, and which bad parent is named is its choice.

    So is what is said of a job that a sweep finds expired together with its parent.
    """
    if job.error is None or job.interruptions:
        return None
    if not job.error.startswith(("parent ", "expired: ")):
        return job.error
    return job.error.split()[0] if job.expires_at is None else "expired: or parent"


def _comparable_gate(job: Job) -> str | None:
    """Behind its key a job may be due and not have been looked at: LATER still, or KEY already."""
    return "key" if job.gate in (Gate.LATER, Gate.KEY) else job.gate
