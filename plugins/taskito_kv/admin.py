"""What people do with the jobs of the memory store, and the upkeep that its workers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskito_core import (
    Complete,
    ConfigError,
    Edge,
    Facts,
    JobStatus,
    LogEntry,
    LogFilter,
    Note,
    Progress,
    Pruned,
    QueueLimits,
    Receipt,
    Replay,
    Retention,
    Swept,
)
from taskito_kv import claiming, gates, pruning, reading, repeating, sweeping
from taskito_kv.access import MemoryAccess


class MemoryAdmin(MemoryAccess):
    # ---- cancel, repeat, delete ----

    def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        with self._changing() as store:
            now = self.now()
            asked = [store.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in store.jobs]
            pending = [job for job in asked if job.status is JobStatus.PENDING]
            for job in pending:
                # A parent in ``ids`` may have cancelled it just now; then it gets this reason too.
                if store.jobs[job.id].status is JobStatus.PENDING:
                    gates.end(store, store.jobs[job.id], JobStatus.CANCELLED, now, error=reason)
                else:
                    store.put(store.jobs[job.id], error=reason)
            gates.give_slots(store, now)
            return [job.id for job in pending]

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        with self._ready() as store:
            running = [job for job in store.running() if job.id in ids]
            for job in running:
                store.put(job, cancel_asked=True)
                if force:
                    store.forced.add(job.id)
                store.wake_worker(job.worker)
            return [job.id for job in running]

    def replay(self, job_id: str, new_id: str) -> Receipt | None:
        with self._changing() as store:
            job = store.jobs.get(job_id)
            if job is None or not job.status.finished:
                return None
            return repeating.replay(store, job, new_id, self.now())

    def retry_dead(self, job_id: str, new_id: str) -> Receipt | None:
        with self._changing() as store:
            letter = store.letters.get(job_id)
            return None if letter is None else repeating.retry_letter(store, letter, new_id, self.now())

    def delete(self, ids: Sequence[str]) -> list[str]:
        with self._changing() as store:
            return [job_id for job_id in dict.fromkeys(ids) if store.delete_finished(job_id)]

    def purge(self, status: JobStatus, before: int, limit: int) -> int:
        with self._changing() as store:
            old = [
                job.id
                for job in store.jobs.values()
                if job.status is status
                and job.completed_at is not None
                and job.completed_at < before
                and not store.is_needed(job)
            ][:limit]
            return sum(store.delete_finished(job_id) for job_id in old)

    def prune(self, limit: int, dry_run: bool = False) -> Pruned:
        with self._changing() as store:
            return pruning.prune(store, limit, dry_run, self.now())

    def retention(self) -> Retention:
        with self._ready() as store:
            return store.retention

    def retain(self, retention: Retention) -> None:
        with self._ready() as store:
            store.retention = retention

    # ---- queues ----

    def pause(self, queue: str) -> bool:
        with self._ready() as store:
            if queue in store.paused:
                return False
            store.paused[queue] = self.now()
            return True

    def resume(self, queue: str) -> bool:
        with self._ready() as store:
            if store.paused.pop(queue, None) is None:
                return False
            store.wake({queue})
            return True

    def paused(self) -> Mapping[str, int]:
        with self._ready() as store:
            return dict(store.paused)

    def limit_queue(self, queue: str, limits: QueueLimits) -> None:
        with self._ready() as store:
            store.limits[queue] = limits
            if limits == QueueLimits():
                del store.limits[queue]
            if limits.rate is None:
                store.queue_buckets.pop(queue, None)
            store.wake({queue})

    def queue_limits(self) -> Mapping[str, QueueLimits]:
        with self._ready() as store:
            return dict(store.limits)

    # ---- upkeep by the workers ----

    def sweep(self, limit: int) -> Swept:
        with self._changing() as store:
            return sweeping.sweep(store, limit, self.now())

    def note(self, notes: Sequence[Note]) -> None:
        with self._changing() as store:
            for note in notes:
                if note.job_id not in store.jobs:
                    continue
                if isinstance(note, Progress):
                    store.put(store.jobs[note.job_id], progress=note.progress)
                else:
                    store.logs.setdefault(note.id, note)

    # ---- inside a transaction of the task's own ----

    def complete_in(self, connection: object, outcome: Complete) -> bool:
        raise no_transactions()

    # ---- read ----

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        with self._ready() as store:
            return [
                Edge(child, parent, store.replay_of.get((child, parent)))
                for child, parents in store.edges.items()
                for parent in parents
                if child in ids or parent in ids
            ]

    def replays(self, job_id: str) -> list[Replay]:
        with self._ready() as store:
            return repeating.history(store, job_id)

    def logs(self, where: LogFilter, limit: int) -> list[LogEntry]:
        with self._ready() as store:
            matching = [entry for entry in store.logs.values() if reading.log_matches(entry, where)]
            return sorted(matching, key=lambda entry: entry.id)[:limit]

    def await_logs(self, job_id: str, after: str | None, timeout: float) -> bool:
        where = LogFilter(job_id=job_id, after=after)
        with self._ready() as store:

            def told() -> bool:
                if job_id not in store.jobs or store.jobs[job_id].status.finished:
                    return True
                return any(reading.log_matches(entry, where) for entry in store.logs.values())

            return store.changed.wait_for(told, timeout)

    def facts(self, job_id: str) -> Facts | None:
        with self._ready() as store:
            job = store.jobs.get(job_id)
            return None if job is None else claiming.facts(store, job, self.now())


def no_transactions() -> ConfigError:
    return ConfigError("the memory store has no transactions; connection= needs another backend")
