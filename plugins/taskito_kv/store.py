"""The data behind ``MemoryStorage`` objects: the tables as dictionaries, and who waits for wakeups.

The store's one lock is held during every use, except that of ``MemoryWakeups``.
"""

from __future__ import annotations

import threading
import time
from dataclasses import fields, replace
from typing import Any, NamedTuple

from taskito_core import (
    AttemptError,
    Breaker,
    BreakerOptions,
    Bucket,
    Charge,
    DeadLetter,
    DeadReason,
    ErrorInfo,
    Job,
    JobStatus,
    LogEntry,
    NewJob,
    PeriodicState,
    QueueLimits,
    Retention,
    Tallies,
    WorkerInfo,
    WorkerStatus,
)


def wall_clock() -> int:
    """This machine's clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def in_order(job: Job) -> tuple[int, int, str]:
    """Sorts the jobs of one queue, or of one concurrency key, as they are served."""
    return (-job.priority, job.scheduled_at, job.id)


class Replayed(NamedTuple):
    """One row of the replay history: what does not change any more."""

    job_id: str
    new_id: str
    replayed_at: int
    status_before: JobStatus
    error_before: str | None


class LastCall(NamedTuple):
    """The last of the calls that belong together."""

    job_id: str  #: the job that stands for them
    call_id: str  #: the id that it brought
    called_at: int
    until: int  #: the job stands for other calls until then


#: What a dead letter takes over from the row of its job.
_COPIED = tuple(sorted({field.name for field in fields(DeadLetter)} & {field.name for field in fields(Job)}))


class Store:
    """All the data of one store. ``changed`` is its lock, and is notified of every change."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.migrated = False
        self.latest = 0  #: what the clock showed last, as far as a heartbeat has seen it
        self.retention = Retention()
        self.announced = False  #: somebody was told what the retention is
        self.jobs: dict[str, Job] = {}
        self.given: dict[str, NewJob] = {}  #: job id -> what ``enqueue`` was given
        self.lanes: dict[str, str] = {}  #: job id -> lane
        self.delayed_at: dict[str, int] = {}  #: job id -> from when ``scheduled_at`` was counted, if it was
        self.edges: dict[str, tuple[str, ...]] = {}  #: job id -> its parents
        self.replay_of: dict[tuple[str, str], str] = {}  #: (job id, parent) -> the parent it stands for
        self.forced: set[str] = set()  #: running jobs that were asked to cancel by force
        self.keys_to_review: set[str] = (
            set()
        )  #: concurrency keys that may have a free slot: see ``gates.give_slots``
        self.calls: dict[str, LastCall] = {}  #: by their key
        self.errors: dict[str, list[AttemptError]] = {}
        self.letters: dict[str, DeadLetter] = {}
        self.buried: dict[str, NewJob] = {}  #: job id of a letter -> the job as it would be enqueued again
        self.replays: list[Replayed] = []
        self.logs: dict[str, LogEntry] = {}  #: by their own ids
        self.paused: dict[str, int] = {}
        self.limits: dict[str, QueueLimits] = {}  #: by queue
        self.queue_buckets: dict[str, Bucket] = {}  #: of the rates of queues
        self.periodic: dict[str, PeriodicState] = {}
        self.workers: dict[str, WorkerInfo] = {}
        self.minutes: dict[int, Tallies] = {}  #: metrics by the start of their minute
        self.waiting: set[str] = set()  #: workers that found less than they wanted
        self.listeners: list[MemoryWakeups] = []
        self.buckets: dict[str, Bucket] = {}  #: of rate limits, by key
        self.breakers: dict[str, tuple[Breaker, BreakerOptions]] = {}  #: by task

    def pending_migrations(self) -> list[str]:
        return [] if self.migrated else ["0001_initial"]

    def is_alive(self, worker_id: str) -> bool:
        worker = self.workers.get(worker_id)
        return worker is not None and worker.status is WorkerStatus.ALIVE

    def running(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.status is JobStatus.RUNNING]

    def jobs_run_by(self, worker_id: str) -> list[Job]:
        return [job for job in self.running() if job.worker == worker_id]

    def pending(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.status is JobStatus.PENDING]

    def claimable(self) -> list[Job]:
        """Those without a gate, due or not."""
        return [job for job in self.pending() if job.gate is None]

    def holder_of(self, unique_key: str | None) -> Job | None:
        """The live job that holds this key."""
        if unique_key is None:
            return None
        live = [job for job in self.jobs.values() if job.unique_key == unique_key and not job.status.finished]
        return live[0] if live else None

    def parents_of(self, job_id: str) -> list[Job]:
        return [self.jobs[parent] for parent in self.edges.get(job_id, ())]

    def children(self, job_id: str) -> list[Job]:
        return [self.jobs[child] for child, parents in self.edges.items() if job_id in parents]

    def is_awaited(self, job: Job) -> bool:
        """Whether a live job has it as a parent."""
        return any(not child.status.finished for child in self.children(job.id))

    def is_needed(self, job: Job) -> bool:
        """Whether it is awaited, or another job that may be run again needs its result."""
        return self.is_awaited(job) or any(
            child.status is not JobStatus.COMPLETE
            and (job.status is JobStatus.COMPLETE or self.given[child.id].tolerant)
            for child in self.children(job.id)
        )

    def put(self, job: Job, **changes: Any) -> Job:
        """Replace the row of ``job`` by a copy with these changes; the copy."""
        changed = replace(job, **changes)
        self.jobs[job.id] = changed
        return changed

    def charged(self, job: Job, charge: Charge | None) -> dict[str, int]:
        """The change to the counter that ``charge`` names, for ``put``."""
        return {} if charge is None else {charge.value: getattr(job, charge.value) + 1}

    def add_error(self, job: Job, token: int, error: ErrorInfo, now: int) -> None:
        attempt = job.retry_count + job.crashes + job.interruptions + 1
        row = AttemptError(
            job.id, token, attempt, error.kind, error.type, error.message, error.traceback, job.worker, now
        )
        self.errors.setdefault(job.id, []).append(row)

    def bury(self, job: Job, reason: DeadReason, error: ErrorInfo, now: int) -> None:
        row: dict[str, Any] = {name: getattr(job, name) for name in _COPIED}
        row |= {"job_id": job.id, "reason": reason, "traceback": error.traceback, "failed_at": now}
        self.letters[job.id] = DeadLetter(**row)
        self.buried[job.id] = self.repeatable(job)

    def drop_letter(self, job_id: str) -> bool:
        """Delete the letter of this job; False if there is none."""
        self.buried.pop(job_id, None)
        return self.letters.pop(job_id, None) is not None

    def repeatable(self, job: Job) -> NewJob:
        """The job as it would be enqueued again: due at once, as much time to start, no parents."""
        return replace(
            self.given[job.id],
            lane=self.lanes[job.id],
            scheduled_at=None,
            delay=0.0,
            expires_at=None,
            expires=None if job.expires_at is None else max(job.expires_at - job.created_at, 0) / 1000,
            parents=(),
            tolerant=False,
            drop_excess=False,
        )

    def delete_finished(self, job_id: str) -> bool:
        """Delete the job, or a letter without one; False if it is live, awaited, or not there."""
        job = self.jobs.get(job_id)
        if job is None:
            return self.drop_letter(job_id)
        if not job.status.finished or self.is_awaited(job):
            return False
        self.delete(job_id)
        return True

    def delete(self, job_id: str) -> None:
        """Forget the job and all that belongs to it."""
        del self.jobs[job_id]
        del self.given[job_id]
        del self.lanes[job_id]
        self.delayed_at.pop(job_id, None)
        self.errors.pop(job_id, None)
        self.drop_letter(job_id)
        self.edges.pop(job_id, None)
        for child, parents in list(self.edges.items()):
            self.edges[child] = tuple(parent for parent in parents if parent != job_id)
        self.replay_of = {edge: old for edge, old in self.replay_of.items() if job_id not in edge}
        self.replays = [one for one in self.replays if one.job_id != job_id]
        self.logs = {entry.id: entry for entry in self.logs.values() if entry.job_id != job_id}

    def wake(self, queues: set[str]) -> None:
        """Wake the waiting workers that serve one of these queues."""
        for listener in self.listeners:
            if listener.worker_id in self.waiting and listener.queues & queues:
                listener.wake()

    def wake_worker(self, worker_id: str | None) -> None:
        """Wake this worker, whether it waits for jobs or not."""
        for listener in self.listeners:
            if listener.worker_id == worker_id:
                listener.wake()


class MemoryWakeups:
    """The wakeups of one worker: a flag for a wakeup and one for an interrupt, under a condition."""

    def __init__(self, store: Store, worker_id: str, queues: frozenset[str]) -> None:
        self.worker_id = worker_id
        self.queues = queues
        self._store = store
        self._condition = threading.Condition()
        self._woken = False
        self._interrupted = False
        store.listeners.append(self)

    def wake(self) -> None:
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def wait(self, timeout: float) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: self._woken or self._interrupted, timeout)
            woken = self._woken
            self._woken = self._interrupted = False
            return woken

    def interrupt(self) -> None:
        with self._condition:
            self._interrupted = True
            self._condition.notify_all()

    def close(self) -> None:
        with self._store.changed:
            if self in self._store.listeners:
                self._store.listeners.remove(self)


_stores: dict[tuple[str, str], Store] = {}
_stores_lock = threading.Lock()


def store_named(name: str, schema: str) -> Store:
    """The store of this name and schema in this process; made on first use, kept until ``forget``."""
    with _stores_lock:
        return _stores.setdefault((name, schema), Store())


def forget(name: str) -> None:
    """Drop every store of this name."""
    with _stores_lock:
        for key in [key for key in _stores if key[0] == name]:
            del _stores[key]
