"""What a job is, which state may follow which, and the records that travel.

Standard library only, no I/O. Times are integer milliseconds since the epoch on
the store's clock; durations are float seconds. Records are immutable snapshots.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

#: Seconds: a ``result_ttl`` that never ends.
FOREVER = 1e12


class JobStatus(StrEnum):
    """Where a job is. The words are the user's words."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """True if it is over: only ``Move.REVIVE`` leads out of such a state."""
        return self in FINISHED


FINISHED = frozenset({JobStatus.COMPLETE, JobStatus.DEAD, JobStatus.CANCELLED})


class Move(StrEnum):
    """The verbs that change a job's status; each is used for exactly one transition."""

    CLAIM = "claim"
    COMPLETE = "complete"
    RETRY = "retry"
    RELEASE = "release"
    RESCUE = "rescue"
    BURY = "bury"
    CANCEL = "cancel"
    STOP = "stop"
    REVIVE = "revive"  #: of one that was cancelled because of a parent, when that runs again


class Transition(NamedTuple):
    before: JobStatus
    after: JobStatus


#: The state machine, once. SQL and the conformance suite are checked against it.
MOVES: Mapping[Move, Transition] = MappingProxyType(
    {
        Move.CLAIM: Transition(JobStatus.PENDING, JobStatus.RUNNING),
        Move.COMPLETE: Transition(JobStatus.RUNNING, JobStatus.COMPLETE),
        Move.RETRY: Transition(JobStatus.RUNNING, JobStatus.PENDING),
        Move.RELEASE: Transition(JobStatus.RUNNING, JobStatus.PENDING),
        Move.RESCUE: Transition(JobStatus.RUNNING, JobStatus.PENDING),
        Move.BURY: Transition(JobStatus.RUNNING, JobStatus.DEAD),
        Move.CANCEL: Transition(JobStatus.PENDING, JobStatus.CANCELLED),
        Move.STOP: Transition(JobStatus.RUNNING, JobStatus.CANCELLED),
        Move.REVIVE: Transition(JobStatus.CANCELLED, JobStatus.PENDING),
    }
)


def new_id() -> str:
    """A time-ordered job id: a UUID version 7 (RFC 9562, section 5.7) as 32 hex digits."""
    milliseconds = time.time_ns() // 1_000_000
    return id_of(f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}", int.from_bytes(os.urandom(10), "big") >> 6)


def id_of(head: str, tail: int) -> str:
    """An id: 48 bits of time in hex, then version 7, 12 bits, variant 2 and 62 bits: the 74 of ``tail``."""
    return f"{head}7{tail >> 62:03x}{tail & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000:016x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What ``enqueue`` is given: everything about a job that does not exist yet."""

    id: str  #: made by the client, so that sending the same batch again stores nothing twice
    task_name: str
    payload: bytes  #: the serialised arguments, opaque to every store
    queue: str = "default"
    priority: int = 0  #: higher is claimed first
    scheduled_at: int | None = None  #: not before this moment; None: ``delay`` after the insert
    delay: float = 0.0  #: seconds from the insert by the store's clock; only if scheduled_at is None
    max_retries: int | None = None  #: retries after the first attempt; None: as the task says
    timeout: float | None = None  #: hard limit in seconds, 0: none; None: as the task says
    result_ttl: float | None = None  #: seconds it is kept after its end; None: as the retention says
    metadata: str | None = None  #: a JSON object as text
    tags: tuple[str, ...] = ()
    lane: str = ""  #: the task's name if starting it must be allowed first (rate limit, breaker)
    expires_at: int | None = None  #: not started by then: cancelled
    expires: float | None = None  #: the same in seconds from the insert; only if expires_at is None
    unique_key: str | None = None  #: held by one live job at a time
    parents: tuple[str, ...] = ()  #: ids of jobs that must complete first
    tolerant: bool = False  #: run also if parents ended otherwise
    concurrency_key: str | None = None  #: jobs of one key share its slots
    concurrency: int | None = None  #: how many slots; given exactly if there is a key
    drop_excess: bool = False  #: cancelled at once if every slot is taken
    call_key: str | None = None  #: calls that belong together: see ``enqueue``; then no unique_key
    window: float | None = None  #: with a call_key: seconds for which one job is enough


class Receipt(NamedTuple):
    """The answer to one NewJob: the id that now stands for it."""

    id: str  #: of the live job that holds the unique key, if there is one
    inserted: bool  #: False if this id was stored before, or its unique key was held


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A snapshot of one row, read at one moment."""

    id: str
    task_name: str
    queue: str
    status: JobStatus
    payload: bytes
    result: bytes | None  #: the serialised return value, once complete
    error: str | None  #: ``Type: message`` of the last failed attempt; None once it is complete
    priority: int
    created_at: int
    scheduled_at: int
    claimed_at: int | None  #: when the current or last attempt was claimed
    started_at: int | None  #: when the last recorded attempt really started
    completed_at: int | None  #: when it finished, however it ended
    retry_count: int  #: failed attempts that were charged
    max_retries: int | None
    crashes: int  #: times its process died under it
    interruptions: int  #: times it was taken away through no fault of its own
    timeout: float | None
    result_ttl: float | None
    worker: str | None  #: id of the worker that runs it, or ran it last
    token: int | None  #: the fence of the current claim; a finished job keeps its last one
    metadata: str | None
    tags: tuple[str, ...]
    gate: str | None = None  #: why it cannot be claimed, while pending; see ``Gate``
    expires_at: int | None = None  #: not started by then: cancelled
    unique_key: str | None = None
    concurrency_key: str | None = None
    progress: float | None = None  #: as the task last said
    cancel_asked: bool = False  #: while running: it was asked to stop


class Claim(NamedTuple):
    """The right to run a job until the worker's lease ends. ``(id, token)`` is the fence."""

    id: str
    token: int  #: only its holder may settle
    task_name: str
    queue: str
    payload: bytes
    retry_count: int
    crashes: int
    interruptions: int
    max_retries: int | None
    timeout: float | None
    metadata: str | None
    claimed_at: int  #: milliseconds since the epoch, the store's clock
    due_at: int  #: since when it could have run: scheduled_at, or created_at if that is later


class ErrorKind(StrEnum):
    """How an attempt went wrong."""

    RAISED = "raised"  #: the task raised an exception
    TIMEOUT = "timeout"  #: a soft or hard limit ended it
    CRASH = "crash"  #: its process died
    INTERRUPTED = "interrupted"  #: its worker died, or its result was lost with the process
    REJECTED = "rejected"  #: it could not be run or its outcome not be stored as it was


class ErrorInfo(NamedTuple):
    """One attempt's failure as text, safe for every store (see ``clean_text``)."""

    kind: ErrorKind
    type: str  #: exception class name, signal name, or the like
    message: str
    traceback: str | None = None

    @property
    def summary(self) -> str:
        """``Type: message`` in one line of at most 500 characters."""
        first_line = self.message.partition("\n")[0]
        return f"{self.type}: {first_line}"[:500] if first_line else self.type[:500]


class Charge(StrEnum):
    """Which counter a settled attempt raises by one."""

    RETRY = "retry_count"
    CRASH = "crashes"
    INTERRUPTION = "interruptions"


class DeadReason(StrEnum):
    """Why a job is in the dead letter."""

    RETRIES = "retries exhausted"
    NOT_RETRYABLE = "not retryable"
    CRASHES = "crashed too often"
    INTERRUPTIONS = "interrupted too often"
    REJECTED = "rejected"


class Complete(NamedTuple):
    """The attempt returned; ``result`` is the serialised value."""

    job_id: str
    token: int
    result: bytes
    started_at: int | None


class Retry(NamedTuple):
    """The attempt is over and another shall follow ``delay`` seconds after this is recorded."""

    job_id: str
    token: int
    delay: float
    charge: Charge
    error: ErrorInfo
    started_at: int | None


class Dead(NamedTuple):
    """The attempt is over and so is the job: into the dead letter with its last error."""

    job_id: str
    token: int
    reason: DeadReason
    charge: Charge | None
    error: ErrorInfo
    started_at: int | None


class Release(NamedTuple):
    """The claim is handed back: pending again, nothing charged, no error recorded."""

    job_id: str
    token: int
    #: move it to this lane (a task's name), so that only workers that know the task, or may start it, see it
    lane: str | None = None
    delay: float | None = None  #: due so many seconds after this is recorded; None: when it was due before


class Cancelled(NamedTuple):
    """The attempt was stopped because the job was asked to cancel, and so the job is over."""

    job_id: str
    token: int
    error: str  #: becomes the job's ``error``: why
    started_at: int | None


Outcome = Complete | Retry | Dead | Release | Cancelled


class AttemptError(NamedTuple):
    """One row of ``job_errors``: how one attempt failed."""

    job_id: str
    token: int
    attempt: int  #: 1 for the first attempt: retry_count + crashes + interruptions before it, plus 1
    kind: ErrorKind
    type: str
    message: str
    traceback: str | None
    worker: str | None
    failed_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One row of ``dead_letter``: enough to understand and repeat the job without its row in ``jobs``."""

    job_id: str
    task_name: str
    queue: str
    payload: bytes
    reason: DeadReason
    error: str  #: ``Type: message`` of the last attempt
    traceback: str | None
    priority: int
    retry_count: int
    max_retries: int | None
    crashes: int
    interruptions: int
    timeout: float | None
    result_ttl: float | None
    metadata: str | None
    tags: tuple[str, ...]
    created_at: int
    failed_at: int


_TEXT_CAP = 64 * 1024


def clean_text(text: str, cap: int = _TEXT_CAP) -> str:
    """``text`` as every store can keep it: no NUL, no lone surrogate, ``cap`` characters and a mark.

    One NUL in one error message would otherwise fail the whole batch it travels in, for ever.
    A text that is too long loses its middle: a traceback's two ends are the useful parts.
    """
    if len(text) > cap:
        half = cap // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
