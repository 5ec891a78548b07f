"""Requests to the store thread, and its replies: all that it and the loop tell each other. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from taskito.worker.store.timers import Upkeep
from taskito.worker.store.unserved_lanes import UnservedLane
from taskito_core.job import Outcome
from taskito_core.storage_worker import Beat, Exchange, Note, Pruned, Swept, Want, WorkerInfo

# ---- requests ----


@dataclass(frozen=True, slots=True)
class Register:
    """Make this worker known under its id, which was never used before."""

    worker: WorkerInfo
    name: ClassVar[str] = "register"


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen for wakeups from now on, instead of those of an earlier registration."""

    worker: WorkerInfo
    first: bool  #: the worker registers for the first time: plugins are told that it has started
    name: ClassVar[str] = "listen"


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    worker_id: str
    running: Sequence[tuple[str, int]]  #: (job id, token) of every claim in flight
    name: ClassVar[str] = "heartbeat"


@dataclass(frozen=True, slots=True)
class RescueJobs:
    """Hand on what these workers ran."""

    suspects: Mapping[str, int]  #: worker id -> the last beat that was seen
    name: ClassVar[str] = "rescue"


@dataclass(frozen=True, slots=True)
class RecordNotes:
    """Store progress and log entries of jobs. What the store refuses is dropped."""

    notes: Sequence[Note]
    name: ClassVar[str] = "note"


@dataclass(frozen=True, slots=True)
class ExchangeJobs:
    """Record outcomes and claim jobs, in one transaction."""

    worker_id: str
    outcomes: Sequence[Outcome]
    endings: Mapping[str, Sequence[AttemptEnding]]  #: task -> what its breaker is told
    want: Want | None  #: None: nothing is claimed
    free: int  #: executors that could begin a job at once
    name: ClassVar[str] = "exchange"


@dataclass(frozen=True, slots=True)
class DoUpkeep:
    kind: Upkeep
    worker: WorkerInfo

    @property
    def name(self) -> str:
        return self.kind.value


@dataclass(frozen=True, slots=True)
class Unregister:
    """Leave in good order; plugins are told before, once."""

    worker: WorkerInfo
    name: ClassVar[str] = "unregister"


Request = Register | Listen | SendHeartbeat | RescueJobs | RecordNotes | ExchangeJobs | DoUpkeep | Unregister


class AttemptEnding(NamedTuple):
    """How an attempt of a task with a breaker ended."""

    claim: tuple[str, int]  #: job id and token
    succeeded: bool | None  #: None: it tells nothing about the task, as when it never began


# ---- replies ----


class Registered(NamedTuple):
    """The id is in the store."""


class Listening(NamedTuple):
    """Wakeups arrive from now on."""


class HeartbeatSent(NamedTuple):
    beat: Beat


class ExtraHeartbeatSent(NamedTuple):
    """A heartbeat beside a request that was slow, and not the answer to it."""

    beat: Beat | None  #: None: it failed


class JobsRescued(NamedTuple):
    job_ids: list[str]


class NotesRecorded(NamedTuple):
    """Those of the request are stored, or were refused for good."""


class ExchangeResult(NamedTuple):
    """The answer of one exchange, and what admission control makes of it."""

    exchange: Exchange
    unguarded: frozenset[str] = frozenset()  #: ids of claims that must go to their task's lane
    more: bool = False  #: a limited lane was left with jobs for want of free children, or is open again
    retry_after: float | None = None  #: seconds until a lane that is held up may be asked for again
    shut: frozenset[str] = frozenset()  #: tasks with a breaker that is open: what has not begun goes back


class JobsPruned(NamedTuple):
    pruned: Pruned


class JobsSwept(NamedTuple):
    swept: Swept


class CronFired(NamedTuple):
    pause: float  #: seconds until the next slot is due


class UnservedLanesFound(NamedTuple):
    unserved: list[UnservedLane]


class Unregistered(NamedTuple):
    """The worker is gone, in good order."""


class Failed(NamedTuple):
    """The request raised."""

    request: Request
    error: Exception


Reply = (
    Registered
    | Listening
    | HeartbeatSent
    | ExtraHeartbeatSent
    | JobsRescued
    | NotesRecorded
    | ExchangeResult
    | JobsPruned
    | JobsSwept
    | CronFired
    | UnservedLanesFound
    | Unregistered
    | Failed
)


class Wakeup(NamedTuple):
    """Something may have arrived in the store. Not a reply: it comes unasked."""
