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
    MAX_CRASHES,
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
POLICY = RetryPolicy(max_retries=2, backoff=1.0, jitter=False)


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
    ({}, Crashed(ERROR), Retry("id", 7, 1.0, Charge.CRASH, ERROR, 5)),
    ({"retry_count": 9}, Crashed(ERROR), Retry("id", 7, 1.0, Charge.CRASH, ERROR, 5)),
    (
        {"crashes": MAX_CRASHES - 1},
        Crashed(ERROR),
        Dead("id", 7, DeadReason.CRASHES, Charge.CRASH, ERROR, 5),
    ),
]


@pytest.mark.parametrize(("counters", "result", "outcome"), DECISIONS)
def test_an_attempt_ends_as_the_table_says(
    counters: dict[str, int], result: Result, outcome: Outcome
) -> None:
    assert decide(claim(**counters), result, POLICY, 0.0, 5) == outcome


def test_a_job_that_was_taken_away_too_often_is_not_run_again() -> None:
    assert refuse(claim(interruptions=MAX_INTERRUPTIONS - 1)) is None

    dead = refuse(claim(interruptions=MAX_INTERRUPTIONS))

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
