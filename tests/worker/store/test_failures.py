"""What the worker's log says of failed attempts."""

from __future__ import annotations

import logging

from taskito.worker.dispatch.inflight import InFlight
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.store.failures import MOST_LINES, log_failures
from taskito_core.job import Charge, Claim, Complete, Dead, DeadReason, ErrorInfo, ErrorKind, Retry
from taskito_core.retry import RetryPolicy

ERROR = ErrorInfo(ErrorKind.RAISED, "ValueError", "bad")
POLICY = TaskPolicy("work", "default", RetryPolicy(), 0.0)


def entry(outcome, retry_count=0):
    claim = Claim("job1", 7, "work", "default", b"", retry_count, 0, 0, None, None, None, 0, 0)
    made = InFlight(1, claim, POLICY, 0.0, 0.0)
    made.outcome = outcome
    return made


def retry():
    return Retry("job1", 7, 2.0, Charge.RETRY, ERROR, None)


def test_each_failed_attempt_is_one_line_that_says_what_comes_next(caplog):
    dead = Dead("job1", 7, DeadReason.RETRIES, None, ERROR, None)

    with caplog.at_level(logging.WARNING, "taskito.worker"):
        log_failures([entry(retry()), entry(dead, 3), entry(Complete("job1", 7, b"", None))])

    assert caplog.messages == [
        "job job1 (work) failed, attempt 1: ValueError: bad; again in 2.0 s",
        "job job1 (work) failed, attempt 4: ValueError: bad; dead: retries exhausted",
    ]


def test_a_flood_of_failures_is_counted(caplog):
    with caplog.at_level(logging.WARNING, "taskito.worker"):
        log_failures([entry(retry()) for _ in range(MOST_LINES + 5)])

    assert len(caplog.messages) == MOST_LINES + 1
    assert caplog.messages[-1] == "and 5 more jobs failed"
