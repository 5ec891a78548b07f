"""What a worker calls of the storage contract: claim, settle, stay alive, and keep the store in order.

The general promises of ``taskito_core.storage`` hold here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from taskito_core.job import Claim, Complete, NewJob, Outcome

NO_CAPS: Mapping[str, int] = MappingProxyType({})


class Want(NamedTuple):
    """What a worker is ready to claim."""

    limit: int  #: at most this many claims
    queues: tuple[str, ...]  #: in serving order: a queue's jobs come before the next one's
    tasks: tuple[str, ...]  #: the tasks this worker knows; of the lanes, '' and those named here are served
    token: int  #: goes on every row this call claims; never used before by any worker
    caps: Mapping[str, int] = NO_CAPS  #: of these lanes at most so many claims each, over all queues


class Exchange(NamedTuple):
    """The answer of one ``exchange``."""

    recorded: frozenset[str]  #: ids of outcomes that are in the store now, by this call or an earlier sending
    claims: list[Claim]  #: best first
    next_due: int | None  #: earliest moment a wanted pending job falls due, if none is due now
    now: int  #: the store's clock at this exchange
    alive: bool  #: False: the store considers this worker dead (or never saw it): nothing was claimed
    sweep_at: int | None = None  #: earliest moment ``sweep`` has something to do; given if claims fell short
    opened: bool = False  #: settling made jobs claimable that were not


class Peer(NamedTuple):
    """Another worker that the store considers alive."""

    worker_id: str
    beat: int
    host: str


class Beat(NamedTuple):
    """The answer to one heartbeat."""

    alive: bool  #: False: this worker was declared dead and must register anew, under a new id
    peers: list[Peer]
    unknown_to_me: list[tuple[str, int]]  #: (job id, token) that I run in the store, and did not name
    unknown_to_store: frozenset[str]  #: of the (job id, token) I named, the ids that are no longer mine
    now: int
    cancels: Mapping[str, bool] = MappingProxyType({})  #: jobs I run that were asked to stop: id -> force


class WorkerStatus(StrEnum):
    ALIVE = "alive"
    STOPPED = "stopped"  #: it unregistered
    DEAD = "dead"  #: its lease ran out and a peer declared it dead


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One row of ``workers``."""

    id: str
    host: str
    pid: int
    app: str
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    procs: int
    version: str
    started_at: int = 0  #: set by the store at ``register``
    last_seen: int = 0  #: the store's clock at the last heartbeat
    beat: int = 0  #: counts heartbeats; what peers watch
    status: WorkerStatus = WorkerStatus.ALIVE


class Progress(NamedTuple):
    """How far a job is; only the newest of a job counts."""

    job_id: str
    progress: float  #: as the task says; by custom 0 to 100


class LogEntry(NamedTuple):
    """One row of ``task_logs``: what a task said while it ran."""

    id: str  #: time-ordered, made by the writer; the same id again is stored once
    job_id: str
    task_name: str
    token: int  #: of the attempt
    logged_at: int  #: milliseconds since the epoch, by the clock of the machine it ran on
    level: str  #: ``debug`` to ``critical``; ``published`` for what ``publish`` sent; ``stdout``, ``stderr``
    message: str
    extra: str | None  #: JSON text


Note = Progress | LogEntry


class Swept(NamedTuple):
    """What one ``sweep`` did."""

    expired: list[str]  #: pending jobs that were cancelled because their time had passed
    cancelled: list[str]  #: dependants that were cancelled because a parent did not complete
    opened: list[str]  #: jobs that can be claimed now, and could not before
    next_at: int | None  #: earliest moment at which there will be something to do again, as far as is known
    now: int
    set_back: int = 0  #: milliseconds by which the store's clock was found to have been set back, told once


class Retention(NamedTuple):
    """For how many seconds a store keeps what has no time of its own; None: for ever."""

    finished: float | None = 7 * 86_400.0  #: jobs that completed or were cancelled; counts from their end
    dead: float | None = 30 * 86_400.0  #: dead jobs, with their letters
    logs: float | None = 30 * 86_400.0  #: lines of job logs; with their job they go in any case
    metrics: float | None = 7 * 86_400.0  #: minutes of the metrics beside it


class Pruned(NamedTuple):
    """What one ``prune`` deleted, or would delete."""

    finished: int  #: jobs that had completed or were cancelled
    dead: int
    logs: int  #: lines of jobs that stay
    announce: Retention | None = None  #: what holds, given once in the life of a store: to be said to people

    @property
    def jobs(self) -> int:
        """All of them."""
        return self.finished + self.dead


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
    fired: str = ""  #: which slots have fired, as the worker notes it that fired last


class Wakeups(Protocol):
    """Tells one worker that there may be work. Used by one thread; others may only call ``interrupt``.

    A wakeup means "ask now". It carries no data, and may be lost or spurious: after ``wait`` returned, for
    whatever reason, the caller asks the store again, and it passes a timeout that it can bear.
    """

    def wait(self, timeout: float) -> bool:
        """Block until a wakeup, an ``interrupt`` or ``timeout`` seconds; True if it was a wakeup.

        A wakeup that came since the last ``wait`` returns at once. A lost connection raises nothing: ``wait``
        goes on by polling (at most every 50 ms to 1 s, growing, with jitter) and reconnects meanwhile.
        """
        ...

    def interrupt(self) -> None:
        """Make the current, or else the next, ``wait`` return at once. Thread-safe, never blocks."""
        ...

    def close(self) -> None:
        """Give back the connection, socket or file. ``wait`` must not be called again."""
        ...


class StorageWorker(Protocol):
    """What a worker calls: its supervisor, and (``complete_in``) the children that run its jobs."""

    # ---- claim and settle ----

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        """Record what ended and claim what is next, in ONE transaction and in this order:

        1. **Record** the outcomes whose token is still on the row, whether or not the worker is alive. Dead
           writes ``dead_letter``; Dead and Retry write ``job_errors``. A Retry falls due ``delay`` seconds
           after this call. So does a Release that has a delay; any other is due when it was before. A Retry,
           a rescue and a Release with a delay set ``expires_at`` to None, because a job that is put off has
           started. A Retry or Release of a job that was asked to cancel is recorded as if it were Cancelled,
           with the error ``messages.CANCELLED_WHILE_RUNNING``: nothing is charged or added to ``job_errors``.
        2. **Cascade**: a job that finished releases its dependants. Those whose parents have all completed
           lose their gate; those of a parent that ended otherwise are cancelled, and their dependants in
           turn, unless tolerant. A job with a concurrency key gives up its slot when it finishes, and when it
           falls due later (a Retry or Release with a delay); the best due job of the key gets the slot. What
           becomes claimable is among the claims of step 3 or counts for ``next_due``, and wakes others.
        3. **Claim** due jobs without a gate: ``scheduled_at`` not after the store's clock and ``expires_at``
           after it, of the wanted queues that are not paused, from the lane '' and the lanes named in
           ``want.tasks``. Their order is the serving order of the queues, and inside one queue higher
           priority, earlier ``scheduled_at``, lower id. At most ``want.limit``, and of each lane in
           ``want.caps`` at most that many. No two calls, in any process, ever return the same claim. A worker
           that is not registered alive gets none. What step 1 released may be claimed by the same call.
        4. **Mark as waiting**: if fewer than ``want.limit`` were found, the worker is marked as waiting, and
           the claims include what is found *after* producers can see that mark. So a job that is enqueued
           later wakes this worker, and the caller may sleep until then or until ``next_due``.

        With ``want`` None, steps 3 and 4 are left out and the mark stays as it is: a worker that only settles
        may be waiting still. No worker wakes itself: such a caller learns by ``opened`` of jobs to claim.

        Returns in ``recorded`` the outcomes of step 1, and those that an earlier sending of the same outcome
        recorded (a finished row keeps its token; ``job_errors`` keeps (job_id, token)). A Release that is
        sent twice may go unnamed. Any outcome that is not named was fenced: it changed nothing.

        Raises StorageError if one outcome cannot be stored as it is; then nothing was recorded or claimed,
        and the caller sends the batch again in parts.
        """
        ...

    def peek(self, queues: Sequence[str], lanes: Sequence[str]) -> Mapping[str, int]:
        """Which of these lanes have claimable jobs in these queues, and when the earliest falls due.

        Paused queues are left out. Cheap, however many jobs there are.
        """
        ...

    def lanes(self) -> list[tuple[str, str]]:
        """Queue and lane of pending jobs without a gate, due or not: each pair once, 1,000 at most; cheap."""
        ...

    def complete_in(self, connection: object, outcome: Complete) -> bool:
        """Record that a job completed, on the caller's connection and in the caller's transaction.

        True if the row was there with this token. False: the job has another holder by now, and the caller
        must roll back. Neither commits nor changes any setting of the connection. A later ``exchange`` of the
        same outcome reports it recorded and releases dependants. ConfigError without EXTERNAL_TRANSACTIONS.
        """
        ...

    # ---- a worker's life ----

    def register(self, worker: WorkerInfo) -> None:
        """Add this worker, alive, with beat 0. Its id must be new."""
        ...

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        """Raise this worker's beat by one and compare what it runs: (job id, token) pairs."""
        ...

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        """Declare workers dead, and put what they ran back to pending; the ids of those jobs.

        ``suspects`` maps worker ids to the beat they were last seen with. A worker whose beat has moved since
        is alive, and keeps its jobs. Every rescued job gets ``interruptions + 1``, the error
        ``messages.worker_lost`` and a row of it in ``job_errors`` (kind interrupted). A job that was asked to
        cancel is cancelled after that (``messages.CANCELLED_WHILE_RUNNING``), and is in the answer too.
        Running jobs of every worker that is not alive (dead, stopped, or unknown) are rescued too.
        Idempotent; two rescuers at once do it once.
        """
        ...

    def unregister(self, worker_id: str) -> None:
        """Mark this worker stopped; what it still runs in the store is released, uncharged."""
        ...

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        """Wakeups for jobs that arrive on these queues."""
        ...

    # ---- upkeep ----

    def sweep(self, limit: int) -> Swept:
        """Do what has fallen due, and what a cascade has left undone, for up to ``limit`` jobs of each kind:

        cancel pending jobs whose ``expires_at`` has passed; release or cancel children whose parents have all
        finished; open gated jobs (``LATER``) that are due and whose key has a free slot, and leave those
        without one behind ``KEY``, so that ``next_at`` does not name them again. Idempotent, and cheap if
        there is nothing to do. Wakes workers that wait for what was opened.

        First, if the store's clock was set back by over two seconds, move what was written ahead: what was
        due is due, a wait keeps what is left of it, a moment that was named stays.
        """
        ...

    def prune(self, limit: int, dry_run: bool = False) -> Pruned:
        """``delete`` up to ``limit`` finished jobs whose time has passed, and as many lines of logs.

        A job's time is its ``result_ttl``, however it ended; without one it is the store's ``retention``.
        Parents of live jobs stay until those have finished, and results that a job needs until it has
        completed: it may be dead or cancelled, and run again. Also deletes workers gone for a day.
        ``dry_run`` counts, and changes and announces nothing.
        """
        ...

    def note(self, notes: Sequence[Note]) -> None:
        """Store what running jobs said, and drop what was said by jobs that are no longer stored.

        The newest Progress of a job wins, in the order given. Need not survive a power cut. Wakes readers.
        """
        ...

    # ---- periodic tasks ----

    def register_periodic(self, app: str, entries: Sequence[tuple[PeriodicEntry, int]]) -> list[str]:
        """Declare all periodic tasks of an app, each with the moment it is to fire next; names refused.

        A new entry begins enabled. A known one keeps ``enabled``, ``last_run`` and ``next_run``, the latter
        unless its cron or time zone changed. A name that another app declared within the last ten minutes is
        refused: nothing of it changes. After those ten minutes this app takes the name over, and the entry
        counts as known. Entries of ``app`` that are not named here are removed once no worker has registered
        them for ten minutes: two versions of an app may run side by side.
        """
        ...

    def due_periodic(self, app: str) -> list[PeriodicState]:
        """The app's enabled entries whose ``next_run`` is not after the store's clock, earliest first."""
        ...

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        """Store the jobs of these slots and move ``next_run`` on, together; False if another worker did.

        Compare and swap: only if the entry is enabled and its ``next_run`` is still that of ``state``.
        ``last_run`` becomes the ``next_run`` of ``state`` if the new one is later, ``fired`` that of
        ``state``. The jobs' ids are derived from their slots: none is stored twice. Wakes workers.
        """
        ...
