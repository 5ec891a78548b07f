"""Failed attempts on their way to the app's callbacks, which run in some child between two jobs.

An event is made once, when the store has recorded the outcome, and is handed on at most once: it may
be lost with the process that has it, and is never sent again.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from taskito.running_job.job_context import JobContext
from taskito.worker.ipc.wire import MessageType, WireError, pack
from taskito_core.job import AttemptError, ErrorKind

log = logging.getLogger("taskito.worker")

#: Events that may wait for a process that runs the callbacks; beyond it the newest are lost.
MAX_WAITING = 1000


class FailureEvent(NamedTuple):
    """One failed attempt, as the callbacks are told of it."""

    context: JobContext  #: of the attempt
    error: AttemptError
    retry_count: int | None  #: failed attempts of the job so far; None: the job is dead


def pack_failure_event(event: FailureEvent) -> bytes:
    """A NOTIFY message. JSON: failures are not the hot path."""
    context, error, retry_count = event
    head = [context.task_name, context.queue_name, context.retry_count, context.metadata, retry_count]
    return pack(MessageType.NOTIFY, json.dumps([*head, *error]).encode())


def unpack_failure_event(body: bytes) -> FailureEvent:
    """Raises WireError for anything malformed."""
    try:
        task_name, queue_name, before, metadata, retry_count, *fields = json.loads(body)
        error = AttemptError(*fields)
        error = error._replace(kind=ErrorKind(error.kind))
    except (ValueError, TypeError) as exc:
        raise WireError(f"a malformed failure event: {exc}") from None
    context = JobContext(error.job_id, task_name, queue_name, before, error.token, metadata)
    context.uncharged = error.attempt - 1 - before
    return FailureEvent(context, error, retry_count)


class FailureEventQueue:
    """Events that no child has been given yet, MAX_WAITING of them at most."""

    def __init__(self) -> None:
        self._waiting: deque[FailureEvent] = deque()

    def add(self, events: Sequence[FailureEvent]) -> None:
        room = max(0, MAX_WAITING - len(self._waiting))
        self._waiting.extend(events[:room])
        log_lost(len(events[room:]), "too many wait")

    def give_to(self, takers: Sequence[Callable[[bytes], bool]]) -> None:
        """Hand them out one by one to all takers in rotation; one that returns False is asked no more."""
        takers, position = list(takers), 0
        while self._waiting and takers:
            position %= len(takers)
            if takers[position](pack_failure_event(self._waiting[0])):
                self._waiting.popleft()
                position += 1
            else:
                del takers[position]

    def close(self) -> None:
        """No child will come for the rest."""
        log_lost(len(self._waiting), "no child is left to run them")
        self._waiting.clear()


def log_lost(count: int, why: str) -> None:
    """Log that callbacks will not be told of so many failures, if there are any."""
    if count:
        log.warning("callbacks are not told of %d failed attempts: %s", count, why)
