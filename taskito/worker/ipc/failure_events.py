"""Failed attempts on their way to the app's hooks, which run in some child between two jobs.

A notice is made once, when the store has recorded the outcome, and is handed on at most once: it may
be lost with the process that has it, and is never sent again.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from taskito.running_job.job_context import JobContext
from taskito.worker.dispatch.inflight import Entry
from taskito.worker.ipc.wire import MessageType, WireError, pack
from taskito_core.job import AttemptError, Charge, Dead, ErrorInfo, ErrorKind, Retry

log = logging.getLogger("taskito.worker")

#: Notices that may wait for somebody to run the hooks; beyond it the newest are lost.
MOST_WAITING = 1000


class Notice(NamedTuple):
    """One failed attempt, as the hooks are told of it."""

    context: JobContext  #: of the attempt
    error: AttemptError
    retry_count: int | None  #: failed attempts of the job so far; None: the job is dead


def notices_of(recorded: Iterable[Entry], worker_id: str, now: int) -> list[Notice]:
    """What to tell of outcomes that the store recorded at ``now``, where somebody wants to hear of it."""
    wanted = (entry for entry in recorded if entry.policy.notify)
    return [notice for entry in wanted if (notice := notice_of(entry, worker_id, now)) is not None]


def notice_of(entry: Entry, worker_id: str, now: int) -> Notice | None:
    """What to tell of one recorded outcome; None: nothing, for the attempt has not failed."""
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
    return Notice(context, _attempt_error(entry, error, worker_id, now), retry_count)


def _attempt_error(entry: Entry, error: ErrorInfo, worker_id: str, now: int) -> AttemptError:
    claim = entry.claim
    attempt = claim.retry_count + claim.crashes + claim.interruptions + 1
    return AttemptError(claim.id, claim.token, attempt, *error, worker_id, now)


def pack_notice(notice: Notice) -> bytes:
    """A NOTIFY message. JSON: failures are not the hot path."""
    context, error, retry_count = notice
    head = [context.task_name, context.queue_name, context.retry_count, context.metadata, retry_count]
    return pack(MessageType.NOTIFY, json.dumps([*head, *error]).encode())


def unpack_notice(body: bytes) -> Notice:
    """Raises WireError for anything malformed."""
    try:
        task_name, queue_name, before, metadata, retry_count, *fields = json.loads(body)
        error = AttemptError(*fields)
        error = error._replace(kind=ErrorKind(error.kind))
    except (ValueError, TypeError) as exc:
        raise WireError(f"a malformed notice: {exc}") from None
    context = JobContext(error.job_id, task_name, queue_name, before, error.token, metadata)
    return Notice(context, error, retry_count)


class WaitingNotices:
    """Notices that no child has been given yet, so many and no more."""

    def __init__(self) -> None:
        self._waiting: deque[Notice] = deque()

    def add(self, notices: Sequence[Notice]) -> None:
        room = max(0, MOST_WAITING - len(self._waiting))
        self._waiting.extend(notices[:room])
        log_lost(len(notices[room:]), "too many wait")

    def give_to(self, takers: Sequence[Callable[[bytes], bool]]) -> None:
        """Hand them out in turn to those who take one; a taker that returns False is asked no more."""
        takers, turn = list(takers), 0
        while self._waiting and takers:
            turn %= len(takers)
            if takers[turn](pack_notice(self._waiting[0])):
                self._waiting.popleft()
                turn += 1
            else:
                del takers[turn]

    def close(self) -> None:
        """Nobody will come for the rest."""
        log_lost(len(self._waiting), "no child is left to run them")
        self._waiting.clear()


def log_lost(count: int, why: str) -> None:
    """Say that hooks will not hear of so many failures, if there are any."""
    if count:
        log.warning("hooks are not told of %d failed attempts: %s", count, why)
