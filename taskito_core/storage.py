"""The storage contract: what a backend promises, in units, order, atomicity and errors.

Every method takes and returns sequences of immutable records with opaque bytes; one
job is a batch of one. Unless its docstring says otherwise each method is one
transaction, is safe to call from any thread, and raises ``StorageUnavailable`` if the
store cannot be reached or does not answer (with the driver's exception as
``__cause__``), ``StorageError`` for anything else the store refuses. No driver
exception class ever escapes. Times are integer milliseconds since the epoch on the
**store's** clock; durations are float seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from taskito_core.errors import ConfigError
from taskito_core.job import AttemptError, Claim, DeadLetter, Job, JobStatus, NewJob, Outcome, Receipt
from taskito_core.storage_client import Managing

NO_CAPS: Mapping[str, int] = MappingProxyType({})

#: ``counts(exact=False)`` stops counting finished jobs of one status here.
COUNT_CAP = 50_000


class Capability(StrEnum):
    """Optional powers of a backend. The core reads what the storage object declares."""

    WAKEUPS = "wakeups"  #: ``Wakeups.wait`` returns early when work arrives, also from another process
    MULTI_HOST = "multi_host"  #: workers on several machines may share the store
    EXTERNAL_TRANSACTIONS = "external_transactions"  #: enqueue and complete on the caller's own connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Everything a backend is told. Plain data: it travels to the supervisor, which imports no user code."""

    backend: str = "sqlite"  #: the name a plugin offers, after aliases were resolved
    db_url: str | None = None  #: may hold a password; never shown unmasked
    db_path: str = ".taskito/taskito.db"
    schema: str = "taskito"
    pool_size: int | None = None  #: None: the backend's default
    auto_migrate: bool = True  #: migrate on first use; False: refuse a schema that is not current
    durability: str = "power"  #: "power": commits survive a power cut; "process": a killed process

    def beside(self, backend: str, url: str) -> StorageConfig:
        """The config of what ``backend`` keeps besides jobs, asked for by ``url``.

        A URL names the database; a name alone means the one that holds the jobs. Raises ConfigError if
        the jobs are in some other backend's.
        """
        if "://" in url:
            return replace(self, backend=backend, db_url=url)
        if self.backend != backend:
            raise ConfigError(
                f"{url!r} alone means the database of the jobs, and that is one of {self.backend!r}; "
                f"say which one as a URL"
            )
        return self


class StorageInfo(NamedTuple):
    """What ``info()`` tells an operator."""

    backend: str
    location: str  #: the URL or absolute path, password masked
    server: str  #: e.g. ``PostgreSQL 16.3`` or ``SQLite 3.45.1``
    schema_version: int  #: the last migration applied, 0 before the first
    newest_version: int  #: the last migration this plugin knows


class Want(NamedTuple):
    """What a worker is ready to claim."""

    limit: int  #: at most this many claims
    queues: tuple[str, ...]  #: in serving order: a queue's jobs come before the next one's
    tasks: tuple[str, ...]  #: the tasks this worker knows; of the lanes, '' and those named here are served
    token: int  #: goes on every row this call claims; never used before by anyone
    caps: Mapping[str, int] = NO_CAPS  #: of these lanes at most so many claims each, over all queues


class Exchange(NamedTuple):
    """The answer of one ``exchange``."""

    recorded: frozenset[str]  #: ids of outcomes that are in the store now, by this call or an earlier sending
    claims: list[Claim]  #: best first
    next_due: int | None  #: earliest moment a wanted pending job falls due, if none is due now
    now: int  #: the store's clock at this exchange
    alive: bool  #: False: the store holds this worker for dead (or never saw it): nothing was claimed
    sweep_at: int | None = None  #: earliest moment ``sweep`` has something to do; told if claims fell short
    opened: bool = False  #: settling made jobs claimable that were not


class Peer(NamedTuple):
    """Another worker that the store holds for alive."""

    worker_id: str
    beat: int
    host: str


class Beat(NamedTuple):
    """The answer to one heartbeat."""

    alive: bool  #: False: this worker was declared dead and must register anew, under a new id
    peers: list[Peer]
    unknown_to_me: list[tuple[str, int]]  #: (job id, token) the store says I run, that I did not name
    unknown_to_store: frozenset[str]  #: of the (job id, token) I named, the ids that are mine no longer
    now: int
    cancels: Mapping[str, bool] = MappingProxyType({})  #: jobs I run that were asked to stop: id -> force


class WorkerStatus(StrEnum):
    ALIVE = "alive"
    STOPPED = "stopped"  #: it took its leave
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
    metadata: Mapping[str, str | int | float | bool | None] = field(
        default_factory=dict
    )  #: top-level values, equal
    tag: str | None = None


class Page(NamedTuple):
    """One page of jobs, newest first (created_at, then id, both descending)."""

    jobs: list[Job]
    cursor: str | None  #: pass it to get the next page; None: this was the last


class DeadPage(NamedTuple):
    """One page of dead letters, newest first (failed_at, then job id, both descending)."""

    letters: list[DeadLetter]
    cursor: str | None


class Wakeups(Protocol):
    """One worker's ear at the store. Used by one thread; only ``interrupt`` may be called by others.

    A wakeup means "look now". It carries no data, and may be lost or spurious: callers
    look again after ``wait`` returned for whatever reason, and pass a timeout they can live with.
    """

    def wait(self, timeout: float) -> bool:
        """Block until a wakeup, an ``interrupt`` or ``timeout`` seconds; True if it was a wakeup.

        A wakeup that came since the last ``wait`` returns at once. Never raises for a lost
        connection: it goes on by polling (at most every 50 ms to 1 s, growing, with jitter)
        and reconnects meanwhile.
        """
        ...

    def interrupt(self) -> None:
        """Make the current, or else the next, ``wait`` return at once. Thread-safe, never blocks."""
        ...

    def close(self) -> None:
        """Give back the connection, socket or file. ``wait`` must not be called again."""
        ...


class Storage(Managing, Protocol):
    """Where jobs live. Constructing one does no I/O; the first call that needs the store opens it.

    First use migrates if ``config.auto_migrate`` (see ``migrate``), else raises ConfigError for a
    schema that is not current. A schema newer than the plugin knows is always refused with
    ConfigError. An object carried across a fork raises StorageError in the child, and neither
    side's ``close`` may harm the other.
    """

    capabilities: frozenset[Capability]
    #: For tests only: milliseconds added to the store's clock in everything this object does.
    clock_shift: int

    # ---- life ----

    def migrate(self) -> list[str]:
        """Bring the schema up to date; the names of the migrations applied, oldest first.

        Safe to call in many processes at once: each migration is applied by one of them, completely or not
        at all, and named in that one's answer; all return when the schema is up to date.
        """
        ...

    def pending_migrations(self) -> list[str]:
        """Names of the migrations ``migrate`` would apply, oldest first. Changes nothing."""
        ...

    def migration_sql(self) -> str:
        """The SQL of all migrations, for people who apply it themselves. Does no I/O on the store."""
        ...

    def close(self) -> None:
        """Give back every connection, thread and file. Idempotent; later calls reopen."""
        ...

    def info(self) -> StorageInfo:
        """Where the store is and which version it has. Opens it, but never migrates."""
        ...

    def now(self) -> int:
        """The store's clock."""
        ...

    # ---- produce ----

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        """Store the jobs, all or none, and wake workers that wait for them after the commit.

        Receipts are in the order of ``jobs``. An id that is stored already, live or finished,
        inserts nothing (``inserted=False``), so a batch may be sent again after an ambiguous commit.
        A unique key that a live job holds, stored or earlier in ``jobs``, gives that job's id; a child of a
        job that was not inserted for that reason, later in ``jobs``, waits for the holder. One that
        is cancelled at once, because of its parents, holds its key for nobody.
        Concurrent producers never see each other's locks as errors.

        A job with parents that have not finished waits behind ``Gate.PARENTS``; if one has ended other than
        complete it is cancelled at once, unless tolerant. A parent is stored already, or earlier in
        ``jobs``; else JobNotFoundError, and nothing is stored.
        Of the jobs of one concurrency key, at most ``concurrency`` are running or claimable at any moment;
        the others wait behind a gate. Who is let in: due jobs by priority, ``scheduled_at``, id; of one batch
        too, whatever its order. With ``drop_excess``, a job that is due at once, has no parent to wait for
        and is not let in is stored as cancelled.

        ``connection``: the caller's own (the driver's connection or cursor, SQLAlchemy's too).
        The jobs are part of its transaction, which this neither commits nor disturbs. Needs
        EXTERNAL_TRANSACTIONS, else ConfigError.
        """
        ...

    def peek(self, queues: Sequence[str], lanes: Sequence[str]) -> Mapping[str, int]:
        """Which of these lanes have claimable jobs in these queues, and when the earliest falls due.

        Paused queues are left out. Cheap, however many jobs there are.
        """
        ...

    # ---- consume ----

    def register(self, worker: WorkerInfo) -> None:
        """Add this worker, alive, with beat 0. The id must be new."""
        ...

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        """Record what ended and claim what is next, in ONE transaction.

        An outcome is recorded only if its token is still on the row; ``recorded`` names those, and
        those that an earlier sending of the same outcome recorded already (a finished row keeps its
        token; ``job_errors`` keeps (job_id, token)). A Release sent twice may go unnamed. Any outcome
        that is not named was fenced: it changed nothing. Outcomes are recorded whether or not the
        worker is alive. Dead writes ``dead_letter``; Dead and Retry write ``job_errors``; a Retry falls
        due ``delay`` seconds after this call, a Release too if it says so, else when it was due before.

        A Retry or Release of a job that was asked to cancel is recorded as if it were Cancelled, with the
        error "cancelled while running": nothing is charged, and nothing added to ``job_errors``. A Retry ends
        the time a job has to start (``expires_at`` becomes None); so does a rescue, and a Release with a
        delay: a job that is put off has started.
        A job that finished releases its dependants: those whose parents have all completed lose their gate;
        those of a parent that ended otherwise are cancelled, and theirs in turn, unless tolerant. A job with
        a concurrency key gives up its place when it finishes and when it falls due later (Retry or Release
        with a delay); the place goes to the next due job of the key. What can be claimed through this is
        either among the claims or counts for ``next_due``, and rings other workers. Without ``want`` the
        caller learns of it by ``opened`` alone: nobody rings itself.

        Claims are due jobs (``scheduled_at`` not after the store's clock, ``expires_at`` after it) without
        a gate, of the wanted queues that are not paused, from the lane '' and the lanes named in
        ``want.tasks``, in serving order of the queues, inside one queue higher priority first, then
        earlier ``scheduled_at``, then lower id; at most ``want.limit``, and of each lane in ``want.caps`` at
        most that many. No two calls, in any process, ever return the same claim. A worker that is not
        registered alive gets none. Settling happens before claiming, so what was released by this call
        may be claimed by it.

        If fewer than ``want.limit`` were found, the worker is marked as waiting, and the claims
        returned include a look taken *after* that mark was visible to producers: a job enqueued later
        rings this worker's Wakeups, so the caller may sleep until then or until ``next_due``. Without
        ``want`` the mark stays as it is: who only settles may be waiting still.
        """
        ...

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        """Raise this worker's beat by one and compare what it runs: (job id, token) pairs."""
        ...

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        """Declare workers dead, and put what they ran back to pending; the ids of those jobs.

        ``suspects`` maps worker ids to the beat they were last seen with: one whose beat has
        moved since is alive and left alone. Every rescued job gets ``interruptions + 1`` and a row in
        ``job_errors`` (kind interrupted) that names the worker; one that was asked to cancel is
        cancelled after that ("cancelled while running"), and is in the answer too.
        Running jobs of any worker that is not alive (dead, stopped, or unknown) are rescued too.
        Idempotent; two rescuers at once do it once.
        """
        ...

    def unregister(self, worker_id: str) -> None:
        """Mark this worker stopped; what it still runs in the store is released, uncharged."""
        ...

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        """An ear for jobs that arrive on these queues."""
        ...

    def prune(self, limit: int) -> int:
        """``delete`` up to ``limit`` finished jobs whose result_ttl has passed; how many. Parents of live
        jobs stay until those have finished. Also forgets workers gone for a day."""
        ...

    # ---- look ----

    def get(self, ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids that exist, in no particular order."""
        ...

    def await_finished(self, job_id: str, timeout: float) -> bool:
        """Block until the job has finished, or at most ``timeout`` seconds; True if it has.

        Returns the moment the job ends (no polling interval shows, if WAKEUPS). A job that is
        not in the store counts as finished.
        """
        ...

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None) -> Page:
        """One page of matching jobs, newest first. Keyset paging: pages stay cheap however deep."""
        ...

    def counts(self, exact: bool = False) -> CountReport:
        """Jobs per queue and state. Live states are exact; finished ones stop at COUNT_CAP per
        status unless ``exact``, which may read every row."""
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
