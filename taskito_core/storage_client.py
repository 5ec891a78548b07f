"""The part of the storage contract that is about jobs while nobody claims or settles them.

Cancelling, replaying, deleting, pausing, schedules, notes from running jobs, and why a job does not run.
The general promises of ``taskito_core.storage`` hold here too: one call is one transaction, from any thread,
and no driver exception escapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from taskito_core.job import Complete, Job, JobStatus, NewJob, Receipt


class Gate(StrEnum):
    """Why a pending job cannot be claimed. No gate: it can, once it is due."""

    PARENTS = "parents"  #: a parent has not finished
    LATER = "later"  #: it has a concurrency key and is not due, or nobody has looked at it since it fell due
    KEY = "key"  #: it is due, and every place of its concurrency key is taken


class Edge(NamedTuple):
    """One dependency: ``job_id`` waits for ``parent_id``."""

    job_id: str
    parent_id: str


class Replay(NamedTuple):
    """One row of ``replay_history``: a finished job was run again as a new one."""

    job_id: str  #: the job that was replayed
    new_id: str
    replayed_at: int
    status_before: JobStatus  #: of ``job_id``, when it was replayed
    error_before: str | None
    status: JobStatus | None  #: of the replay, now; None: it is stored no more
    error: str | None  #: of the replay, now
    result: bytes | None  #: of the replay, once complete


class Progress(NamedTuple):
    """How far a job is; only the newest of a job counts."""

    job_id: str
    progress: float  #: as the task says; by custom 0 to 100


class LogEntry(NamedTuple):
    """One row of ``task_logs``: what a task said while it ran."""

    id: str  #: time-ordered, made by whoever wrote it; the same id again is stored once
    job_id: str
    task_name: str
    token: int  #: of the attempt
    logged_at: int  #: milliseconds since the epoch, by the clock of the machine it ran on
    level: str  #: ``debug`` to ``critical``; ``published`` for what ``publish`` sent; ``stdout``, ``stderr``
    message: str
    extra: str | None  #: JSON text


Note = Progress | LogEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which entries ``logs`` returns; every field that is set must match."""

    job_id: str | None = None
    task_name: str | None = None
    levels: tuple[str, ...] = ()
    since: int | None = None  #: inclusive, by ``logged_at``
    after: str | None = None  #: entries with a greater id only


class Swept(NamedTuple):
    """What one ``sweep`` did."""

    expired: list[str]  #: pending jobs that were cancelled because their time had passed
    cancelled: list[str]  #: dependants that were cancelled because a parent did not complete
    opened: list[str]  #: jobs that can be claimed now, and could not before
    next_at: int | None  #: earliest moment at which there will be something to do again, as far as is known
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicEntry:
    """One periodic task as its app declares it. Plain data."""

    name: str  #: unique in the store
    app: str  #: ``module:attribute`` of the app that declares it
    task_name: str
    cron: str
    timezone: str
    catch_up: str  #: ``skip``, ``one`` or ``all``
    queue: str
    payload: bytes
    priority: int = 0
    max_retries: int | None = None
    timeout: float | None = None
    result_ttl: float | None = None
    metadata: str | None = None
    tags: tuple[str, ...] = ()


class PeriodicState(NamedTuple):
    """One row of ``periodic_tasks``."""

    entry: PeriodicEntry
    next_run: int
    last_run: int | None  #: the slot that fired last
    enabled: bool
    registered_at: int  #: when a worker of its app last declared it, by the store's clock


class Facts(NamedTuple):
    """What the store knows about why a pending job does not run, all read at one moment."""

    job: Job
    now: int
    lane: str  #: '' or the task's name
    parents: tuple[tuple[str, JobStatus], ...]  #: parents that have not finished
    paused: bool  #: its queue
    places: int | None  #: of its concurrency key; None: it has none
    holders: tuple[str, ...]  #: jobs that take the places of its key, itself excluded
    ahead: int  #: jobs that can be claimed now and come before it in its queue, counted up to 10,000


class Managing(Protocol):
    """What can be done with stored jobs beside running them."""

    # ---- cancel, repeat, delete ----

    def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        """Cancel those of these jobs that are pending, gated or not; their ids.

        ``reason`` becomes their ``error``. Their dependants are cancelled too (not in the answer),
        except tolerant ones, which are released; whoever waits in ``await_finished`` is told.
        """
        ...

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        """Mark those of these jobs that are running, for their workers to stop; their ids.

        The worker hears of it in its next ``heartbeat``, and its Wakeups ring at once. The mark goes when the
        attempt ends. ``force`` stays once it was said.
        """
        ...

    def replay(self, job_id: str, new_id: str) -> Receipt | None:
        """Enqueue a finished job again, as it was, under ``new_id`` and due now; None if it is not finished.

        Kept are task, payload, queue, lane, priority, limits, metadata, tags, unique key, concurrency key
        and the time it has to start; its parents are not waited for. Writes ``replay_history``. A unique
        key that another live job holds gives that job's id, ``inserted=False``, and no history.
        """
        ...

    def retry_dead(self, job_id: str, new_id: str) -> Receipt | None:
        """The same for a dead job, from its letter, which is removed; None if it has none.

        Also when the job itself is stored no more. The dead job stays as it is. A second call finds no
        letter. If a live job holds its unique key, nothing is changed.
        """
        ...

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete those of these jobs that have finished, and all that belongs to them (letter, errors, logs,
        edges, history); the ids of those that were there. A letter without its job goes too.
        Parents of live jobs are kept."""
        ...

    def purge(self, status: JobStatus, before: int, limit: int) -> int:
        """``delete`` for up to ``limit`` jobs that ended in this state before this moment; how many."""
        ...

    # ---- queues ----

    def pause(self, queue: str) -> bool:
        """Have nothing claimed from this queue from now on, by any worker; False if it was paused."""
        ...

    def resume(self, queue: str) -> bool:
        """Undo ``pause`` and wake workers that wait for the queue; False if it was not paused."""
        ...

    def paused(self) -> Mapping[str, int]:
        """The paused queues, and since when."""
        ...

    # ---- upkeep by the workers ----

    def sweep(self, limit: int) -> Swept:
        """Do what is due and what nobody else did, for up to ``limit`` jobs of each kind:

        cancel pending jobs whose ``expires_at`` has passed; release or cancel children whose parents
        have all finished; open gated jobs (``LATER``) that are due and whose key has a free place, and leave
        those without a place behind ``KEY``, so that ``next_at`` does not name them again.
        Idempotent, and cheap if there is nothing to do. Workers that wait for what was opened are rung.
        """
        ...

    def note(self, notes: Sequence[Note]) -> None:
        """Store what running jobs said, and drop what jobs said that are not stored any more.

        The newest Progress of a job wins, in the order given. Need not survive a power cut.
        Whoever waits in ``await_logs`` is told.
        """
        ...

    # ---- schedules ----

    def register_periodic(self, app: str, entries: Sequence[tuple[PeriodicEntry, int]]) -> list[str]:
        """Declare all periodic tasks of an app, each with the moment it is to fire next; names refused.

        A new entry begins enabled. A known one keeps ``enabled``, ``last_run`` and ``next_run``, the latter
        unless its cron or time zone changed. A name that another app declared within the last ten minutes is
        refused: nothing of it changes. Entries of ``app`` that are not named here, and that nobody has
        registered for ten minutes, are removed: two versions of an app may run side by side. A name
        that is taken over from another app after its ten minutes counts as known.
        """
        ...

    def due_periodic(self, app: str) -> list[PeriodicState]:
        """The app's enabled entries whose ``next_run`` is not after the store's clock, earliest first."""
        ...

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        """Store the jobs of these slots and move ``next_run`` on, together; False if somebody else did.

        Compare and swap: only if the entry is enabled and its ``next_run`` is still that of ``state``.
        ``last_run`` becomes the ``next_run`` of ``state``. The jobs' ids are derived from their slots, so one
        that is stored already is not stored twice. Wakes workers.
        """
        ...

    def periodic(self) -> list[PeriodicState]:
        """Every periodic task, by name."""
        ...

    def enable_periodic(self, name: str, enabled: bool, next_run: int | None) -> bool:
        """Pause or resume a periodic task; ``next_run`` (if given) is set with it. False if there is none."""
        ...

    # ---- inside a transaction of the task's own ----

    def complete_in(self, connection: object, outcome: Complete) -> bool:
        """Record that a job completed, on the caller's connection and in the caller's transaction.

        True if the row was there with this token; False: the job is somebody else's by now, and the caller
        must roll back. Neither commits nor changes any setting of the connection. The later ``exchange``
        of the same outcome reports it recorded, and only that releases dependants. Needs
        EXTERNAL_TRANSACTIONS, else ConfigError.
        """
        ...

    # ---- look ----

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        """Every dependency in which one of these jobs is child or parent, in no particular order."""
        ...

    def replays(self, job_id: str) -> list[Replay]:
        """What came of replaying this job, oldest first."""
        ...

    def logs(self, where: LogFilter, limit: int) -> list[LogEntry]:
        """The first ``limit`` matching entries, oldest first (by id)."""
        ...

    def await_logs(self, job_id: str, after: str | None, timeout: float) -> bool:
        """Block until the job has a log entry after this id, or has finished; at most ``timeout`` seconds.

        True if so. A job that is not in the store counts as finished.
        """
        ...

    def facts(self, job_id: str) -> Facts | None:
        """Everything that may keep this job from running, in one snapshot; None if it is not stored."""
        ...
