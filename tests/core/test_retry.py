"""How attempts end, as a table."""

from __future__ import annotations

from typing import Any

import pytest

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
from taskito_core.retry import (
    MAX_INTERRUPTIONS,
    Crashed,
    HandedBack,
    Lost,
    Raised,
    Result,
    RetryPolicy,
    Returned,
    Snoozed,
    Stopped,
    decide,
    refuse,
)

ERROR = ErrorInfo(ErrorKind.RAISED, "ValueError", "bad")
REJECTED = ERROR._replace(kind=ErrorKind.REJECTED)
POLICY = RetryPolicy(max_retries=2, backoff=1.0, jitter=False)
ONCE = RetryPolicy(max_retries=0, max_crashes=0)


def claim(**fields: Any) -> Claim:
    values = {
        "id": "id",
        "token": 7,
        "task_name": "t",
        "queue": "q",
        "payload": b"",
        "retry_count": 0,
        "crashes": 0,
        "interruptions": 0,
        "max_retries": None,
        "timeout": None,
        "metadata": None,
        "claimed_at": 1,
        "due_at": 1,
    }
    return Claim(**{**values, **fields})  # type: ignore[arg-type]


#: The claim's counters, how the attempt went -> its outcome.
DECISIONS: list[tuple[dict[str, int], Result, Outcome]] = [
    ({}, Returned(b"x"), Complete("id", 7, b"x", 5)),
    ({}, HandedBack("t"), Release("id", 7, "t")),
    ({}, Snoozed(2.5), Release("id", 7, delay=2.5)),
    ({}, Stopped("why"), Cancelled("id", 7, "why", 5)),
    ({}, Lost(ERROR), Retry("id", 7, 0.0, Charge.INTERRUPTION, ERROR, 5)),
    ({}, Raised(ERROR, True), Retry("id", 7, 1.0, Charge.RETRY, ERROR, 5)),
    ({"retry_count": 1}, Raised(ERROR, True), Retry("id", 7, 2.0, Charge.RETRY, ERROR, 5)),
    ({"retry_count": 2}, Raised(ERROR, True), Dead("id", 7, DeadReason.RETRIES, None, ERROR, 5)),
    ({"max_retries": 0}, Raised(ERROR, True), Dead("id", 7, DeadReason.RETRIES, None, ERROR, 5)),
    ({"retry_count": 2, "max_retries": 3}, Raised(ERROR, True), Retry("id", 7, 4.0, Charge.RETRY, ERROR, 5)),
    ({}, Raised(ERROR, False), Dead("id", 7, DeadReason.NOT_RETRYABLE, None, ERROR, 5)),
    ({}, Raised(REJECTED, False), Dead("id", 7, DeadReason.REJECTED, None, REJECTED, 5)),
    ({}, Crashed(ERROR), Retry("id", 7, 1.0, Charge.CRASH, ERROR, 5)),
    ({"retry_count": 9}, Crashed(ERROR), Retry("id", 7, 1.0, Charge.CRASH, ERROR, 5)),
    (
        {"crashes": POLICY.max_crashes},
        Crashed(ERROR),
        Dead("id", 7, DeadReason.CRASHES, Charge.CRASH, ERROR, 5),
    ),
]


@pytest.mark.parametrize(("counters", "result", "outcome"), DECISIONS)
def test_an_attempt_ends_as_the_table_says(
    counters: dict[str, int], result: Result, outcome: Outcome
) -> None:
    assert decide(claim(**counters), result, POLICY, 0.0, 5) == outcome


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (Returned(b"x"), Complete("id", 7, b"x", 5)),
        (HandedBack("t"), Release("id", 7, "t")),
        (Snoozed(2.5), Release("id", 7, delay=2.5)),
        (Lost(ERROR), Retry("id", 7, 0.0, Charge.INTERRUPTION, ERROR, 5)),  # and then refused: see below
        (Raised(ERROR, True), Dead("id", 7, DeadReason.RETRIES, None, ERROR, 5)),
        (Crashed(ERROR), Dead("id", 7, DeadReason.CRASHES, Charge.CRASH, ERROR, 5)),
    ],
)
def test_with_no_retries_and_no_crashes_an_attempt_is_the_last(result: Result, outcome: Outcome) -> None:
    assert decide(claim(), result, ONCE, 0.0, 5) == outcome


def test_with_no_crashes_what_was_broken_off_or_taken_away_is_not_run_again() -> None:
    broken_off = decide(claim(), HandedBack(), ONCE, 0.0, 5)
    refused = refuse(claim(interruptions=1), ONCE)

    assert isinstance(broken_off, Dead)
    assert (broken_off.reason, broken_off.charge) == (DeadReason.INTERRUPTIONS, Charge.INTERRUPTION)
    assert refused is not None
    assert refused.reason is DeadReason.INTERRUPTIONS
    assert refuse(claim(), ONCE) is None


def test_a_job_that_was_taken_away_too_often_is_not_run_again() -> None:
    assert refuse(claim(interruptions=MAX_INTERRUPTIONS - 1), POLICY) is None

    dead = refuse(claim(interruptions=MAX_INTERRUPTIONS), POLICY)

    assert dead is not None
    assert (dead.reason, dead.charge, dead.started_at) == (DeadReason.INTERRUPTIONS, None, None)
    assert dead.error.message.startswith(f"interrupted {MAX_INTERRUPTIONS} times: ")


@pytest.mark.parametrize(
    ("policy", "retry_count", "random", "seconds"),
    [
        (RetryPolicy(backoff=2.0, jitter=False), 3, 0.9, 16.0),
        (RetryPolicy(backoff=2.0, max_delay=5.0, jitter=False), 3, 0.0, 5.0),
        (RetryPolicy(max_delay=5.0, jitter=False), 10**9, 0.0, 5.0),
        (RetryPolicy(backoff=4.0), 0, 0.5, 4.5),
        (RetryPolicy(delays=(1.0, 30.0), jitter=False), 0, 0.0, 1.0),
        (RetryPolicy(delays=(1.0, 30.0), jitter=False), 7, 0.0, 30.0),
        (RetryPolicy(delays=(), jitter=False), 7, 0.0, 0.0),
    ],
)
def test_delays_grow_to_their_bound_or_are_those_given(
    policy: RetryPolicy, retry_count: int, random: float, seconds: float
) -> None:
    assert policy.delay(retry_count, random) == seconds
