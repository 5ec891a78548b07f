"""The storage contract as plain Python: dictionaries, one lock, nothing clever.

This is the executable reading of ``taskito_core.storage``: where a docstring there can be
read in two ways, what happens here is meant. It lives in one process and forgets
everything with it. A store is known by its name, so several storage objects may share one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from urllib.parse import urlsplit

from taskito_core.errors import ConfigError, StorageError
from taskito_core.job import (
    AttemptError,
    Claim,
    DeadLetter,
    Job,
    JobStatus,
    NewJob,
    Outcome,
    Receipt,
)
from taskito_core.memory import looking
from taskito_core.memory.settling import interrupt, settle
from taskito_core.memory.store import MemoryWakeups, Store, milliseconds, store_named, wall_clock
from taskito_core.storage import (
    Beat,
    Capability,
    CountReport,
    DeadPage,
    Exchange,
    JobFilter,
    Page,
    Peer,
    StorageConfig,
    StorageInfo,
    Wakeups,
    Want,
    WorkerInfo,
    WorkerStatus,
)

_DAY = 24 * 60 * 60 * 1000


class MemoryStorage:
    """One connection, so to speak, to the store its config names (``memory://NAME`` and a schema)."""

    capabilities = frozenset({Capability.WAKEUPS})

    def __init__(self, config: StorageConfig) -> None:
        self.clock_shift = 0
        self._config = config
        self._name = urlsplit(config.db_url or "memory://").netloc
        self._pid = os.getpid()

    # ---- life ----

    def migrate(self) -> list[str]:
        with self._lock() as store:
            applied = store.pending_migrations()
            store.migrated = True
            return applied

    def pending_migrations(self) -> list[str]:
        with self._lock() as store:
            return store.pending_migrations()

    def migration_sql(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing is held open: the store outlives every object that looks at it."""

    def info(self) -> StorageInfo:
        with self._lock() as store:
            return StorageInfo("memory", f"memory://{self._name}", "Python", int(store.migrated), 1)

    def now(self) -> int:
        self._refuse_another_process()
        return wall_clock() + self.clock_shift

    # ---- produce ----

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        with self._ready() as store:
            for new in jobs:
                _refuse_unstorable(new)
            receipts = []
            now = self.now()
            for new in jobs:
                inserted = new.id not in store.jobs
                if inserted:
                    store.jobs[new.id] = _fresh_job(new, now)
                receipts.append(Receipt(new.id, inserted))
            inserted_ids = {receipt.id for receipt in receipts if receipt.inserted}
            store.ring({store.jobs[job_id].queue for job_id in inserted_ids})
            return receipts

    # ---- consume ----

    def register(self, worker: WorkerInfo) -> None:
        with self._ready() as store:
            if worker.id in store.workers:
                raise StorageError(f"worker ids must be new, and {worker.id!r} is registered already")
            now = self.now()
            store.workers[worker.id] = replace(
                worker, started_at=now, last_seen=now, beat=0, status=WorkerStatus.ALIVE
            )

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        with self._ready() as store:
            now = self.now()
            recorded = frozenset(outcome.job_id for outcome in outcomes if settle(store, outcome, now))
            alive = store.is_alive(worker_id)
            claims: list[Claim] = []
            next_due = None
            if want is not None and alive:
                claims = [_claim(store, job, worker_id, want.token, now) for job in _due(store, want, now)]
                next_due = _next_due(store, want, now)
                if len(claims) < want.limit:
                    store.waiting.add(worker_id)
                else:
                    store.waiting.discard(worker_id)
            store.changed.notify_all()
            return Exchange(recorded, claims, next_due, now, alive)

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        with self._ready() as store:
            now = self.now()
            alive = store.is_alive(worker_id)
            if alive:
                me = store.workers[worker_id]
                store.workers[worker_id] = replace(me, beat=me.beat + 1, last_seen=now)
            peers = [
                Peer(worker.id, worker.beat, worker.host)
                for worker in store.workers.values()
                if worker.id != worker_id and worker.status is WorkerStatus.ALIVE
            ]
            mine = [(job.id, job.token or 0) for job in store.jobs_run_by(worker_id)]
            unknown_to_me = [pair for pair in mine if pair not in running]
            unknown_to_store = frozenset(pair[0] for pair in running if pair not in mine)
            return Beat(alive, peers, unknown_to_me, unknown_to_store, now)

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        with self._ready() as store:
            now = self.now()
            for worker_id, beat in suspects.items():
                worker = store.workers.get(worker_id)
                if worker is not None and worker.status is WorkerStatus.ALIVE and worker.beat == beat:
                    store.workers[worker_id] = replace(worker, status=WorkerStatus.DEAD)
                    store.waiting.discard(worker_id)
            lost = [job for job in store.running() if not store.is_alive(job.worker or "")]
            for job in lost:
                interrupt(store, job, now)
            return [job.id for job in lost]

    def unregister(self, worker_id: str) -> None:
        with self._ready() as store:
            worker = store.workers.get(worker_id)
            if worker is None:
                return
            store.workers[worker_id] = replace(worker, status=WorkerStatus.STOPPED)
            store.waiting.discard(worker_id)
            for job in store.jobs_run_by(worker_id):
                store.put(job, status=JobStatus.PENDING, token=None)

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        with self._ready() as store:
            return MemoryWakeups(store, worker_id, frozenset(queues))

    def prune(self, limit: int) -> int:
        with self._ready() as store:
            now = self.now()
            expired = [job.id for job in store.jobs.values() if _expired(job, now)][:limit]
            for job_id in expired:
                store.delete(job_id)
            gone = [
                worker.id
                for worker in store.workers.values()
                if worker.status is not WorkerStatus.ALIVE and worker.last_seen <= now - _DAY
            ]
            for worker_id in gone:
                del store.workers[worker_id]
            return len(expired)

    # ---- look ----

    def get(self, ids: Sequence[str]) -> list[Job]:
        with self._ready() as store:
            return [store.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in store.jobs]

    def await_finished(self, job_id: str, timeout: float) -> bool:
        with self._ready() as store:

            def finished() -> bool:
                return job_id not in store.jobs or store.jobs[job_id].status.finished

            return store.changed.wait_for(finished, timeout)

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None) -> Page:
        with self._ready() as store:
            return looking.page_of_jobs(store.jobs.values(), where, limit, cursor)

    def counts(self, exact: bool = False) -> CountReport:
        with self._ready() as store:
            return looking.count(store.jobs.values(), exact)

    def errors(self, job_id: str) -> list[AttemptError]:
        with self._ready() as store:
            return list(store.errors.get(job_id, []))

    def dead_letters(self, limit: int, cursor: str | None) -> DeadPage:
        with self._ready() as store:
            return looking.page_of_letters(store.letters.values(), limit, cursor)

    def letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        with self._ready() as store:
            return [store.letters[job_id] for job_id in dict.fromkeys(ids) if job_id in store.letters]

    def workers(self) -> list[WorkerInfo]:
        with self._ready() as store:
            return looking.workers_in_order(store.workers.values())

    # ---- how a call gets at the store ----

    @contextmanager
    def _lock(self) -> Iterator[Store]:
        """The store, all of it, for one call: every method is one transaction."""
        # Before the lock: a forked child may have inherited it locked, by a thread it does not have.
        self._refuse_another_process()
        store = store_named(self._name, self._config.schema)
        with store.changed:
            yield store

    @contextmanager
    def _ready(self) -> Iterator[Store]:
        """The store with its schema in place, as every method but the schema's own needs it."""
        with self._lock() as store:
            if store.pending_migrations():
                if not self._config.auto_migrate:
                    missing = ", ".join(store.pending_migrations())
                    raise ConfigError(
                        f"memory://{self._name} is not migrated and auto_migrate is off: {missing}"
                    )
                store.migrated = True
            yield store

    def _refuse_another_process(self) -> None:
        if os.getpid() != self._pid:
            raise StorageError(
                f"storage opened in process {self._pid} was carried into {os.getpid()} by a fork"
            )


def _fresh_job(new: NewJob, now: int) -> Job:
    due = now + milliseconds(new.delay) if new.scheduled_at is None else new.scheduled_at
    return Job(
        id=new.id,
        task_name=new.task_name,
        queue=new.queue,
        status=JobStatus.PENDING,
        payload=new.payload,
        result=None,
        error=None,
        priority=new.priority,
        created_at=now,
        scheduled_at=due,
        claimed_at=None,
        started_at=None,
        completed_at=None,
        retry_count=0,
        max_retries=new.max_retries,
        crashes=0,
        interruptions=0,
        timeout=new.timeout,
        result_ttl=new.result_ttl,
        worker=None,
        token=None,
        metadata=new.metadata,
        tags=new.tags,
    )


def _refuse_unstorable(new: NewJob) -> None:
    """What no database column takes: text that is not Unicode, integers beyond 64 bits."""
    for field in fields(new):
        value = getattr(new, field.name)
        for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
            try:
                text.encode()
            except UnicodeEncodeError as exc:
                raise StorageError(f"{field.name} of job {new.id} is not valid Unicode: {text!r}") from exc
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise StorageError(f"{field.name} of job {new.id} must fit into 64 bits, got {value}")


def _due(store: Store, want: Want, now: int) -> list[Job]:
    """The wanted jobs that may be claimed now, best first, at most ``want.limit``."""
    due = [job for job in store.wanted(want) if job.scheduled_at <= now]
    due.sort(key=lambda job: (want.queues.index(job.queue), -job.priority, job.scheduled_at, job.id))
    return due[: want.limit]


def _next_due(store: Store, want: Want, now: int) -> int | None:
    moments = [job.scheduled_at for job in store.wanted(want)]
    earliest = min(moments, default=None)
    return None if earliest is None or earliest <= now else earliest


def _claim(store: Store, job: Job, worker_id: str, token: int, now: int) -> Claim:
    store.put(job, status=JobStatus.RUNNING, worker=worker_id, token=token, claimed_at=now)
    return Claim(
        id=job.id,
        token=token,
        task_name=job.task_name,
        queue=job.queue,
        payload=job.payload,
        retry_count=job.retry_count,
        crashes=job.crashes,
        interruptions=job.interruptions,
        max_retries=job.max_retries,
        timeout=job.timeout,
        metadata=job.metadata,
        claimed_at=now,
    )


def _expired(job: Job, now: int) -> bool:
    if job.completed_at is None or job.result_ttl is None:
        return False
    return job.completed_at + milliseconds(job.result_ttl) <= now
