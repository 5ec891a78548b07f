"""The part of the storage contract that a client calls: enqueue jobs, act on them, and read what is stored.

The general promises of ``taskito_core.storage`` hold here too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from taskito_core.job import AttemptError, DeadLetter, Job, JobStatus, NewJob, Receipt
from taskito_core.limits import QueueLimits
from taskito_core.storage_worker import LogEntry, PeriodicState, Retention, WorkerInfo

#: ``counts(exact=False)`` stops counting finished jobs of one status here.
COUNT_CAP = 50_000


class Gate(StrEnum):
    """Why a pending job cannot be claimed. No gate: it can, once it is due."""

    PARENTS = "parents"  #: a parent has not finished
    LATER = "later"  #: it has a concurrency key and is not due, or has not been looked at since it fell due
    KEY = "key"  #: it is due, and every slot of its concurrency key is taken


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs are in which state."""

    pending: int = 0
    running: int = 0
    complete: int = 0
    failed: int = 0  #: of the pending ones, those with a failed attempt (``retry_count`` above 0)
    dead: int = 0
    cancelled: int = 0


class CountReport(NamedTuple):
    by_queue: Mapping[str, Counts]
    capped: bool  #: True if some finished status reached COUNT_CAP and was not counted further


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs ``list_jobs`` returns; every field that is set must match."""

    statuses: tuple[JobStatus, ...] = ()
    queue: str | None = None
    task_name: str | None = None
    created_after: int | None = None  #: inclusive
    created_before: int | None = None  #: exclusive
    finished_after: int | None = None  #: inclusive
    finished_before: int | None = None  #: exclusive
    error: str | None = None  #: substring of Job.error, case-sensitive
    metadata: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)  #: top-level, equal
    tag: str | None = None
    failed: bool = False  #: of the pending ones only those that ``Counts.failed`` counts


class Page(NamedTuple):
    """One page of jobs, newest first (created_at, then id, both descending)."""

    jobs: list[Job]
    cursor: str | None  #: pass it to get the next page; None: this was the last


class DeadPage(NamedTuple):
    """One page of dead letters, newest first (failed_at, then job id, both descending)."""

    letters: list[DeadLetter]
    cursor: str | None


class Edge(NamedTuple):
    """One dependency: ``job_id`` waits for ``parent_id``."""

    job_id: str
    parent_id: str
    replay_of: str | None = None  #: the parent it was enqueued with, for which this one stands since


class Replay(NamedTuple):
    """One row of ``replay_history``: a finished job was run again as a new one."""

    job_id: str  #: the job that was replayed
    new_id: str
    replayed_at: int
    status_before: JobStatus  #: of ``job_id``, when it was replayed
    error_before: str | None
    status: JobStatus | None  #: of the replay, now; None: it is no longer stored
    error: str | None  #: of the replay, now
    result: bytes | None  #: of the replay, once complete


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which entries ``logs`` returns; every field that is set must match."""

    job_id: str | None = None
    task_name: str | None = None
    levels: tuple[str, ...] = ()
    since: int | None = None  #: inclusive, by ``logged_at``
    after: str | None = None  #: entries with a greater id only


class Facts(NamedTuple):
    """What the store knows about why a pending job does not run, all read at one moment."""

    job: Job
    now: int
    lane: str  #: '' or the task's name
    parents: tuple[tuple[str, JobStatus], ...]  #: parents that have not finished
    paused: bool  #: its queue
    concurrency: int | None  #: slots of its concurrency key; None: it has no key
    holders: tuple[str, ...]  #: jobs that hold the slots of its key, itself excluded
    ahead: int  #: jobs that can be claimed now and come before it in its queue, counted up to 10,000


class StorageClient(Protocol):
    """What a client calls: the user's Queue, and the CLI."""

    # ---- enqueue ----

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        """Store the jobs, all or none, and wake workers that wait for them after the commit.

        Receipts are in the order of ``jobs``. An id that is stored already, live or finished, inserts nothing
        (``inserted=False``), so a batch may be sent again after an ambiguous commit. A unique key that a live
        job holds, stored or earlier in ``jobs``, gives that job's id. If a later job of ``jobs`` has as its
        parent one that was not inserted for that reason, it waits for the holder. A job that is cancelled at
        once, because of its parents, does not hold its key. Locks of concurrent producers are never errors.

        A job with parents that have not finished waits behind ``Gate.PARENTS``. If a parent has ended other
        than complete the job is cancelled at once, unless tolerant. A parent is stored already, or earlier in
        ``jobs``; else JobNotFoundError (``messages.missing_parents``), key held or not; nothing is stored.

        Of the jobs of one concurrency key, at most ``concurrency`` are running or claimable at any moment,
        each holding a slot; the others wait behind a gate. Slots go to due jobs by priority,
        ``scheduled_at``, id, also among the jobs of one batch, whatever its order. With ``drop_excess``, a
        job that is due at once, has no parent to wait for and gets no slot is stored as cancelled
        (``messages.DROPPED``).

        Calls with one ``call_key`` are spaced, over all processes. With a ``window``, a call within so many
        seconds after the last that was stored gives that job's id. Without, it gives the job that was stored
        last for the key if that is pending, which becomes what this call says, but for id, lane and parents,
        and is due anew; else a new job is stored. Sent again, a call changes nothing.

        If a queue would hold more pending jobs than its ``max_pending`` (``limit_queue``), because of jobs
        that this call stores: QueueFull (``messages.QUEUE_FULL``); nothing is stored.

        ``connection``: the caller's own (the driver's connection or cursor, or SQLAlchemy's). The jobs are
        then part of its transaction, which this call neither commits nor disturbs. Needs
        EXTERNAL_TRANSACTIONS, else ConfigError.
        """
        ...

    # ---- cancel, repeat, delete ----

    def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        """Cancel those of these jobs that are pending, gated or not; their ids.

        ``reason`` becomes their ``error``. Their dependants are cancelled too (not in the answer), except
        tolerant ones, which are released. Wakes callers of ``await_finished``.
        """
        ...

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        """Mark those of these jobs that are running, for their workers to stop; their ids.

        The worker reads the mark in its next ``heartbeat``, and is woken at once. The mark goes when the
        attempt ends. ``force`` stays once it was said.
        """
        ...

    def replay(self, job_id: str, new_id: str) -> Receipt | None:
        """Enqueue a finished job again, as it was, under ``new_id`` and due now; None if it is not finished.

        Kept is all that its producer set, but for due time (``columns.repeated``) and parents: it waits for
        none, but has an edge to each that completed, to keep its result. Writes ``replay_history``. A unique
        key that another live job holds gives that job's id, ``inserted=False``, and nothing else.

        In the same transaction, what was cancelled because it did not complete is **revived**: pending behind
        ``Gate.PARENTS`` again, with the replay as its parent (``Edge.replay_of``), the same time to start and
        a line in its log (``messages.REVIVED``), and so are its dependants in turn. Not if another parent has
        failed, which its ``error`` then names, or if a live job holds its unique key.
        """
        ...

    def retry_dead(self, job_id: str, new_id: str) -> Receipt | None:
        """The same for a dead job, from its letter, which is removed; None if it has none.

        Also when the job itself is no longer stored. The dead job stays as it is.
        """
        ...

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete those of these jobs that have finished, with their letter, errors, logs, edges and history.

        Returns the ids of those that were there. A letter without its job goes too; live jobs' parents stay.
        """
        ...

    def purge(self, status: JobStatus, before: int, limit: int) -> int:
        """``prune`` for up to ``limit`` jobs that ended in this state before this moment; how many."""
        ...

    def retention(self) -> Retention:
        """What ``prune`` goes by. A store that held jobs before there was a retention keeps them for ever."""
        ...

    def retain(self, retention: Retention) -> None:
        """Have it go by this from now on, also for what has ended already."""
        ...

    # ---- queues and periodic tasks ----

    def pause(self, queue: str) -> bool:
        """Have nothing claimed from this queue from now on, by any worker; False if it was paused."""
        ...

    def resume(self, queue: str) -> bool:
        """Undo ``pause`` and wake workers that wait for the queue; False if it was not paused."""
        ...

    def paused(self) -> Mapping[str, int]:
        """The paused queues, and since when."""
        ...

    def limit_queue(self, queue: str, limits: QueueLimits) -> None:
        """Have these limits hold from now on instead of those before; wakes workers that wait for the queue.

        Over all workers no more than ``concurrency`` of its jobs run, but for those that ran before; in any
        window of w seconds no more than ``burst + rate * w`` are claimed, at first ``burst`` at once;
        ``Exchange.next_due`` says when to ask again. ``max_pending`` is for ``enqueue``, not for replays or
        periodic tasks; in the caller's own transaction, what others have not committed is not counted.
        """
        ...

    def queue_limits(self) -> Mapping[str, QueueLimits]:
        """The queues that have any."""
        ...

    def periodic(self) -> list[PeriodicState]:
        """Every periodic task, by name."""
        ...

    def enable_periodic(self, name: str, enabled: bool, next_run: int | None) -> bool:
        """Pause or resume a periodic task; ``next_run`` (if given) is set with it. False if there is none."""
        ...

    # ---- read ----

    def get(self, ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids that exist, in no particular order."""
        ...

    def ids_beginning(self, prefix: str, limit: int) -> list[str]:
        """The first ids of jobs, and of letters without a job, that begin with this; in order, and cheap."""
        ...

    def await_finished(self, job_id: str, timeout: float) -> bool:
        """Block until the job has finished, or at most ``timeout`` seconds; True if it has.

        With WAKEUPS it returns the moment the job ends, and does not poll. An unknown job has finished.
        """
        ...

    def await_any(self, ids: Sequence[str], timeout: float, woken: threading.Event) -> list[str]:
        """As ``await_finished``, until one of these jobs has finished; the ids of those that have.

        Returns within 50 ms if another thread sets ``woken``; may set it itself.
        """
        ...

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None) -> Page:
        """One page of matching jobs, newest first. Keyset paging: pages stay cheap however deep."""
        ...

    def counts(self, exact: bool = False) -> CountReport:
        """Jobs per queue and state. Live states are exact. Finished ones stop at COUNT_CAP per status, unless
        ``exact``, which may read every row."""
        ...

    def errors(self, job_id: str) -> list[AttemptError]:
        """What went wrong in each failed attempt of this job, oldest first."""
        ...

    def dead_letters(self, limit: int, cursor: str | None) -> DeadPage:
        """One page of the dead letter, newest first."""
        ...

    def letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        """The dead letters of the jobs with these ids, of those that have one, in no particular order."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Every worker the store remembers, alive ones first, then latest seen first."""
        ...

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        """Every dependency in which one of these jobs is child or parent, in no particular order."""
        ...

    def replays(self, job_id: str) -> list[Replay]:
        """Every replay of this job, oldest first, and the one that it is of another, if it is one."""
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
