"""Failure events on their way: which outcomes make one, what survives the socket, and how many may wait."""

from __future__ import annotations

import pytest

from taskito.running_job.job_context import JobContext
from taskito.worker.dispatch.inflight import InFlight
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.failure_events import (
    MAX_WAITING,
    FailureEvent,
    FailureEventQueue,
    pack_failure_event,
    unpack_failure_event,
)
from taskito.worker.ipc.wire import MessageParser, MessageType, WireError
from taskito.worker.store.failures import failure_events_of
from taskito_core.job import (
    AttemptError,
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
from taskito_core.retry import RetryPolicy

ERROR = ErrorInfo(ErrorKind.RAISED, "ValueError", "nö \N{SNAKE}", "Traceback ...")


def entry(outcome: Outcome, notify: bool = True) -> InFlight:
    claim = Claim("j1", 7, "t", "mail", b"", 2, 1, 0, None, None, '{"a": 1}', 0, 0)
    made = InFlight(1, claim, TaskPolicy("t", "mail", RetryPolicy(), 0.0, notify=notify), 0.0, 0.0)
    made.outcome = outcome
    return made


@pytest.mark.parametrize(
    ("outcome", "retry_count"),
    [
        (Retry("j1", 7, 1.0, Charge.RETRY, ERROR, None), 3),
        (Retry("j1", 7, 1.0, Charge.CRASH, ERROR, None), 2),
        (Dead("j1", 7, DeadReason.RETRIES, None, ERROR, None), None),
        (Dead("j1", 7, DeadReason.INTERRUPTIONS, None, ERROR, None), None),
    ],
)
def test_a_failure_is_told_as_the_store_keeps_it(outcome: Outcome, retry_count: int | None) -> None:
    [event] = failure_events_of([entry(outcome)], "w1", 1234)

    error = AttemptError("j1", 7, 4, *ERROR, "w1", 1234)
    context = JobContext("j1", "t", "mail", 2, 7, {"a": 1}, uncharged=1)
    assert event == FailureEvent(context, error, retry_count)


@pytest.mark.parametrize(
    "outcome",
    [
        Complete("j1", 7, b"1", None),
        Release("j1", 7),
        Retry("j1", 7, 0.0, Charge.INTERRUPTION, ERROR, None),
    ],
)
def test_what_is_no_failure_is_not_told(outcome: Outcome) -> None:
    assert failure_events_of([entry(outcome)], "w1", 0) == []


def test_nothing_is_made_for_tasks_that_nobody_listens_to() -> None:
    dead = Dead("j1", 7, DeadReason.RETRIES, None, ERROR, None)

    assert failure_events_of([entry(dead, notify=False)], "w1", 0) == []


def an_event(number: int = 0, retry_count: int | None = 1) -> FailureEvent:
    error = AttemptError(f"j{number}", 7, 1, *ERROR, None, 1234)
    return FailureEvent(
        JobContext(f"j{number}", "t", "mail", 0, 7, {"näme": ["x", None]}), error, retry_count
    )


@pytest.mark.parametrize("retry_count", [None, 0, 3])
def test_a_failure_event_arrives_as_it_was_sent(retry_count: int | None) -> None:
    sent = an_event(retry_count=retry_count)
    [(kind, body)] = MessageParser().feed(pack_failure_event(sent))

    assert kind is MessageType.NOTIFY
    assert unpack_failure_event(body) == sent


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[1, 2]", b'["t", "q", 0, {}, null, "j", 7, 1, "odd"]'])
def test_garbage_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError, match="malformed failure event"):
        unpack_failure_event(body)


def test_failure_events_wait_for_takers_and_are_dealt_out_in_turn() -> None:
    waiting = FailureEventQueue()
    given: dict[str, list[bytes]] = {"one": [], "two": []}

    def taker(name: str, most: int):  # type: ignore[no-untyped-def]
        def take(message: bytes) -> bool:
            if len(given[name]) == most:
                return False
            given[name].append(message)
            return True

        return take

    waiting.add([an_event(number) for number in range(5)])
    waiting.give_to([])
    waiting.give_to([taker("one", 1), taker("two", 9)])

    packed = [pack_failure_event(an_event(number)) for number in range(5)]
    assert given == {"one": packed[:1], "two": packed[1:]}


def test_a_bounded_number_waits_and_what_is_lost_is_said(caplog: pytest.LogCaptureFixture) -> None:
    waiting = FailureEventQueue()
    taken: list[bytes] = []

    waiting.add([an_event(number) for number in range(MAX_WAITING + 3)])
    waiting.add([an_event(-1)])
    waiting.give_to([lambda message: not taken.append(message) and len(taken) < 2])  # type: ignore[func-returns-value]
    waiting.close()
    waiting.close()

    assert [record.args for record in caplog.records] == [
        (3, "too many wait"),
        (1, "too many wait"),
        (MAX_WAITING - 1, "no child is left to run them"),
    ]
