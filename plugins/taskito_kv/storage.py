"""The storage contract as plain Python: dictionaries, one lock, nothing clever.

This is the executable reading of ``taskito_core.storage``: where a docstring there can be
read in two ways, what happens here is meant. It lives in one process, and is lost
with it. A store is known by its name, so several storage objects may share one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from taskito_core import (
    AttemptError,
    Beat,
    Capability,
    CountReport,
    DeadLetter,
    DeadPage,
    Exchange,
    Job,
    JobFilter,
    NewJob,
    Outcome,
    Page,
    Peer,
    Receipt,
    StorageError,
    StorageInfo,
    Wakeups,
    Want,
    WorkerInfo,
    WorkerStatus,
)
from taskito_kv import claiming, clock, gates, reading
from taskito_kv.admin import MemoryAdmin, no_transactions
from taskito_kv.inserting import insert
from taskito_kv.schedules import MemorySchedules
from taskito_kv.settling import hand_back, interrupt, settle
from taskito_kv.store import MemoryWakeups, milliseconds

#: Seconds between two checks whether one who waits for many jobs was told to return.
_WOKEN_INTERVAL = 0.02


class MemoryStorage(MemoryAdmin, MemorySchedules):
    """A handle on the store that its config names (``memory://NAME`` and a schema)."""

    capabilities = frozenset({Capability.WAKEUPS})
    #: The store's clock at the last heartbeat, and ours, which nobody sets, at that moment.
    _beaten: tuple[int, float] | None = None

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
        """Nothing is held open: the store outlives every object that uses it."""

    def info(self) -> StorageInfo:
        with self._lock() as store:
            return StorageInfo("memory", f"memory://{self._name}", "Python", int(store.migrated), 1)

    # ---- produce ----

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        if connection is not None:
            raise no_transactions()
        with self._changing() as store:
            return insert(store, jobs, self.now(), bounded=True)

    def peek(self, queues: Sequence[str], lanes: Sequence[str]) -> Mapping[str, int]:
        with self._ready() as store:
            return claiming.peek(store, queues, lanes, self.now())

    def lanes(self) -> list[tuple[str, str]]:
        with self._ready() as store:
            return list({(job.queue, store.lanes[job.id]): None for job in store.claimable()})

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
        with self._changing() as store:
            now = self.now()
            before = {job.id for job in store.claimable()}
            recorded = frozenset(outcome.job_id for outcome in outcomes if settle(store, outcome, now))
            gates.give_slots(store, now)
            opened = not before.issuperset(job.id for job in store.claimable())
            if recorded:
                # A job that ended may have left room in its queue, which nobody but its worker knows of.
                store.wake(
                    {queue for queue, limits in store.limits.items() if limits.concurrency is not None}
                )
            alive = store.is_alive(worker_id)
            if want is None or not alive:
                return Exchange(recorded, [], None, now, alive, opened=opened)
            claims = claiming.claim(store, worker_id, want, now)
            if len(claims) < want.limit:
                store.waiting.add(worker_id)
            else:
                store.waiting.discard(worker_id)
            next_due = claiming.next_due(store, want, now)
            return Exchange(recorded, claims, next_due, now, alive, gates.sweep_at(store), opened)

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        with self._ready() as store:
            now = self.now()
            before, ours = self._beaten or (now, time.monotonic())
            clock.see(store, now, before + milliseconds(time.monotonic() - ours))
            self._beaten = (now, time.monotonic())
            alive = store.is_alive(worker_id)
            if alive:
                me = store.workers[worker_id]
                store.workers[worker_id] = replace(me, beat=me.beat + 1, last_seen=now)
            peers = [
                Peer(worker.id, worker.beat, worker.host)
                for worker in store.workers.values()
                if worker.id != worker_id and worker.status is WorkerStatus.ALIVE
            ]
            running_here = store.jobs_run_by(worker_id)
            mine = [(job.id, job.token or 0) for job in running_here]
            cancels = {job.id: job.id in store.forced for job in running_here if job.cancel_asked}
            unknown_to_me = [pair for pair in mine if pair not in running]
            unknown_to_store = frozenset(pair[0] for pair in running if pair not in mine)
            return Beat(alive, peers, unknown_to_me, unknown_to_store, now, cancels)

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        with self._changing() as store:
            now = self.now()
            for worker_id, beat in suspects.items():
                worker = store.workers.get(worker_id)
                if worker is not None and worker.status is WorkerStatus.ALIVE and worker.beat == beat:
                    store.workers[worker_id] = replace(worker, status=WorkerStatus.DEAD)
                    store.waiting.discard(worker_id)
            lost = [job for job in store.running() if not store.is_alive(job.worker or "")]
            for job in lost:
                interrupt(store, job, now)
            gates.give_slots(store, now)
            return [job.id for job in lost]

    def unregister(self, worker_id: str) -> None:
        with self._changing() as store:
            worker = store.workers.get(worker_id)
            if worker is None:
                return
            store.workers[worker_id] = replace(worker, status=WorkerStatus.STOPPED)
            store.waiting.discard(worker_id)
            now = self.now()
            for job in store.jobs_run_by(worker_id):
                hand_back(store, store.put(job, token=None), now)
            gates.give_slots(store, now)

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        with self._ready() as store:
            return MemoryWakeups(store, worker_id, frozenset(queues))

    # ---- read ----

    def get(self, ids: Sequence[str]) -> list[Job]:
        with self._ready() as store:
            return [store.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in store.jobs]

    def ids_beginning(self, prefix: str, limit: int) -> list[str]:
        with self._ready() as store:
            return sorted(one for one in {*store.jobs, *store.letters} if one.startswith(prefix))[:limit]

    def await_finished(self, job_id: str, timeout: float) -> bool:
        with self._ready() as store:

            def finished() -> bool:
                return job_id not in store.jobs or store.jobs[job_id].status.finished

            return store.changed.wait_for(finished, timeout)

    def await_any(self, ids: Sequence[str], timeout: float, woken: threading.Event) -> list[str]:
        deadline = time.monotonic() + timeout
        with self._ready() as store:
            while True:
                ended = [
                    job_id for job_id in ids if (job := store.jobs.get(job_id)) is None or job.status.finished
                ]
                left = deadline - time.monotonic()
                if ended or left <= 0 or woken.is_set():
                    return ended
                store.changed.wait(min(left, _WOKEN_INTERVAL))

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None) -> Page:
        with self._ready() as store:
            return reading.page_of_jobs(store.jobs.values(), where, limit, cursor)

    def counts(self, exact: bool = False) -> CountReport:
        with self._ready() as store:
            return reading.count(store.jobs.values(), exact)

    def errors(self, job_id: str) -> list[AttemptError]:
        with self._ready() as store:
            return list(store.errors.get(job_id, []))

    def dead_letters(self, limit: int, cursor: str | None) -> DeadPage:
        with self._ready() as store:
            return reading.page_of_letters(store.letters.values(), limit, cursor)

    def letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        with self._ready() as store:
            return [store.letters[job_id] for job_id in dict.fromkeys(ids) if job_id in store.letters]

    def workers(self) -> list[WorkerInfo]:
        with self._ready() as store:
            return reading.workers_in_order(store.workers.values())
