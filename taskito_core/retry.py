"""How an attempt ends: retries, crashes and their bounds are decided here alone.

Pure: a claim, what happened to it and the task's policy in, an Outcome out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from taskito_core import messages
from taskito_core.job import (
    Cancelled,
    Charge,
    Claim,
    Complete,
    Dead,
    DeadReason,
    ErrorInfo,
    ErrorKind,
    Outcome,
    Release,
    Retry,
)

#: A job that was taken away this often is not run again.
MAX_INTERRUPTIONS = 10


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again, and how long after."""

    max_retries: int = 3  #: retries after the first attempt; 0: none
    backoff: float = 1.0  #: seconds before the first retry; doubles with each
    delays: tuple[float, ...] | None = None  #: explicit seconds per retry; the last one repeats
    max_delay: float = 300.0  #: no delay is longer, in seconds
    jitter: bool = True  #: add up to a quarter of the delay, so that a failed batch does not return as one
    max_crashes: int = 2  #: runs after one that its process died in; 0: none after what may have begun

    def delay(self, retry_count: int, random: float) -> float:
        """Seconds to wait before retry number ``retry_count + 1``; ``random`` in [0, 1) decides the jitter.

        ``min(max_delay, backoff * 2 ** retry_count)``, or ``delays[retry_count]``, plus jitter.
        """
        if self.delays is not None:
            base = self.delays[min(retry_count, len(self.delays) - 1)] if self.delays else 0.0
        else:
            # Beyond 2**63 the power only costs digits: max_delay has long won.
            base = min(self.max_delay, self.backoff * 2.0 ** min(retry_count, 63))
        return base * (1.0 + 0.25 * random) if self.jitter else base


class Returned(NamedTuple):
    """The task returned; the value is already serialised."""

    result: bytes


class Raised(NamedTuple):
    """The task raised, or overran a limit: a failed attempt."""

    error: ErrorInfo
    retryable: bool


class Crashed(NamedTuple):
    """The process died under the job."""

    error: ErrorInfo


class Lost(NamedTuple):
    """The job was taken away, or its result was, through no fault of its own."""

    error: ErrorInfo


class HandedBack(NamedTuple):
    """The job did not run, as ``lane`` of Release says, or was interrupted on purpose: ``lane`` is None."""

    lane: str | None = None


class Snoozed(NamedTuple):
    """The task wants to be run again later, which is no failure."""

    delay: float  #: seconds


class Stopped(NamedTuple):
    """The task stopped because its job was asked to cancel."""

    error: str


Result = Returned | Raised | Crashed | Lost | HandedBack | Snoozed | Stopped


def decide(
    claim: Claim, result: Result, policy: RetryPolicy, random: float, started_at: int | None
) -> Outcome:
    """Choose how this attempt ends.

    ``random`` in [0, 1) is the jitter's random number; ``started_at`` is when the attempt
    really started (store's clock, milliseconds), None if it did not, or that is not known.
    """
    match result:
        case Returned(value):
            return Complete(claim.id, claim.token, value, started_at)
        case HandedBack(None) if policy.max_crashes == 0:
            error = ErrorInfo(ErrorKind.INTERRUPTED, "WorkerShutdown", messages.NOT_WAITED_FOR)
            reason, charge = DeadReason.INTERRUPTIONS, Charge.INTERRUPTION
            return Dead(claim.id, claim.token, reason, charge, error, started_at)
        case HandedBack(lane):
            return Release(claim.id, claim.token, lane)
        case Snoozed(delay):
            return Release(claim.id, claim.token, delay=delay)
        case Stopped(why):
            return Cancelled(claim.id, claim.token, why, started_at)
        case Raised(error, retryable):
            return _after_failure(claim, error, retryable, policy, random, started_at)
        case Crashed(error):
            return _after_crash(claim, error, policy, random, started_at)
        case Lost(error):
            return Retry(claim.id, claim.token, 0.0, Charge.INTERRUPTION, error, started_at)


def refuse(claim: Claim, policy: RetryPolicy) -> Dead | None:
    """The dead letter for a claim that has been interrupted too often to be run again, or None.

    Asked before every run: a rescue only counts, it never decides.
    """
    if claim.interruptions < (MAX_INTERRUPTIONS if policy.max_crashes else 1):
        return None
    message = messages.INTERRUPTED_TOO_OFTEN.format(times=claim.interruptions)
    error = ErrorInfo(ErrorKind.INTERRUPTED, "Interrupted", message)
    return Dead(claim.id, claim.token, DeadReason.INTERRUPTIONS, None, error, None)


def _after_failure(
    claim: Claim, error: ErrorInfo, retryable: bool, policy: RetryPolicy, draw: float, started_at: int | None
) -> Outcome:
    if not retryable:
        rejected = error.kind is ErrorKind.REJECTED
        reason = DeadReason.REJECTED if rejected else DeadReason.NOT_RETRYABLE
        return Dead(claim.id, claim.token, reason, None, error, started_at)
    allowed = policy.max_retries if claim.max_retries is None else claim.max_retries
    if claim.retry_count >= allowed:
        return Dead(claim.id, claim.token, DeadReason.RETRIES, None, error, started_at)
    delay = policy.delay(claim.retry_count, draw)
    return Retry(claim.id, claim.token, delay, Charge.RETRY, error, started_at)


def _after_crash(
    claim: Claim, error: ErrorInfo, policy: RetryPolicy, random: float, started_at: int | None
) -> Outcome:
    if claim.crashes >= policy.max_crashes:
        return Dead(claim.id, claim.token, DeadReason.CRASHES, Charge.CRASH, error, started_at)
    delay = policy.delay(claim.crashes, random)
    return Retry(claim.id, claim.token, delay, Charge.CRASH, error, started_at)
