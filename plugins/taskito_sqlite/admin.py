"""What people do with jobs and queues: cancel, repeat, delete, pause. Pruning deletes, so it is here too."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from taskito_core import (
    JobStatus,
    LogEntry,
    NewJob,
    Pruned,
    QueueLimits,
    RateLimit,
    Receipt,
    Retention,
    columns,
    messages,
    new_id,
)
from taskito_sqlite.enqueue import Stored, insert
from taskito_sqlite.gates import cancel_and_cascade
from taskito_sqlite.sql import admin as sql
from taskito_sqlite.sql import job_log, wakeups, workers
from taskito_sqlite.wakeups import WakeupsMixin

#: Milliseconds for which a worker that is gone is remembered.
WORKERS_KEPT = 24 * 3600 * 1000


class AdminMixin(WakeupsMixin):
    """``cancel`` to ``paused`` of the contract, and ``prune``."""

    # ---- cancel ----

    def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        """As ``Storage.cancel``."""

        def work(connection: sqlite3.Connection) -> tuple[list[str], set[str]]:
            cancelled, cascade = cancel_and_cascade(connection, ids, reason, self.now())
            return cancelled, self._to_notify(connection, cascade.queues)

        return self._write_and_notify(work)

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        """As ``Storage.ask_to_cancel``."""

        def work(connection: sqlite3.Connection) -> tuple[list[str], set[str]]:
            asked, addresses = [], set()
            for job_id in dict.fromkeys(ids):
                values = {"id": job_id, "force": force}
                found = connection.execute(sql.ASK_TO_CANCEL, values).fetchone()
                if found is not None:
                    asked.append(job_id)
                    worker = {"worker": found[0]}
                    addresses |= {row[0] for row in connection.execute(wakeups.WORKER_ADDRESS, worker)}
            return asked, addresses

        return self._write_and_notify(work)

    # ---- repeat ----

    def replay(self, job_id: str, new_id: str) -> Receipt | None:
        """As ``Storage.replay``."""
        return self._repeat(lambda connection, now: repeat_job(connection, job_id, new_id, now))

    def retry_dead(self, job_id: str, new_id: str) -> Receipt | None:
        """As ``Storage.retry_dead``."""
        return self._repeat(lambda connection, now: repeat_dead(connection, job_id, new_id, now))

    def _repeat(self, repeat: Callable[[sqlite3.Connection, int], Stored | None]) -> Receipt | None:
        def work(connection: sqlite3.Connection) -> tuple[Receipt | None, set[str]]:
            stored = repeat(connection, self.now())
            if stored is None:
                return None, set()
            return stored.receipts[0], self._to_notify(connection, stored.queues)

        return self._write_and_notify(work)

    # ---- delete ----

    def delete(self, ids: Sequence[str]) -> list[str]:
        """As ``Storage.delete``."""
        return self._write(lambda connection: delete(connection, ids)) if ids else []

    def purge(self, status: JobStatus, before: int, limit: int) -> int:
        """As ``Storage.purge``."""
        values = {"status": status, "before": before, "limit": limit}

        def work(connection: sqlite3.Connection) -> int:
            ended = [row[0] for row in connection.execute(sql.PURGEABLE, values)]
            return len(delete(connection, ended))

        return self._write(work)

    def prune(self, limit: int, dry_run: bool = False) -> Pruned:
        """As ``Storage.prune``."""
        if dry_run:
            return self._read(lambda connection: _outlived(connection, self.now(), limit).counts())

        def work(connection: sqlite3.Connection) -> Pruned:
            now = self.now()
            outlived = _outlived(connection, now, limit)
            delete(connection, list(outlived.jobs))
            connection.execute(sql.FORGET_LOGS, {"ids": json.dumps(outlived.logs)})
            connection.execute(sql.FORGET_CALLS, {"now": now, "limit": limit})
            connection.execute(workers.FORGET_WORKERS, {"before": now - WORKERS_KEPT})
            [*announced] = connection.execute(sql.ANNOUNCE).fetchall()
            return outlived.counts()._replace(announce=Retention(*announced[0]) if announced else None)

        return self._write(work, durable=False)

    def retention(self) -> Retention:
        """As ``Storage.retention``."""
        return self._read(_retention)

    def retain(self, retention: Retention) -> None:
        """As ``Storage.retain``."""
        self._write(lambda connection: connection.execute(sql.RETAIN, retention._asdict()).rowcount)

    # ---- queues ----

    def pause(self, queue: str) -> bool:
        """As ``Storage.pause``."""
        values = {"queue": queue, "now": self.now()}
        return self._write(lambda connection: connection.execute(sql.PAUSE, values).rowcount == 1)

    def resume(self, queue: str) -> bool:
        """As ``Storage.resume``."""

        def work(connection: sqlite3.Connection) -> tuple[bool, set[str]]:
            resumed = connection.execute(sql.RESUME, {"queue": queue}).rowcount == 1
            return resumed, self._to_notify(connection, {queue} if resumed else set())

        return self._write_and_notify(work)

    def limit_queue(self, queue: str, limits: QueueLimits) -> None:
        """As ``Storage.limit_queue``."""
        rate, burst = (None, None) if limits.rate is None else (limits.rate.rate, limits.rate.burst)
        values = {**limits._asdict(), "queue": queue, "rate": rate, "burst": burst, "now": self.now()}
        statement = sql.LIMIT_QUEUE if any(one is not None for one in limits) else sql.UNLIMIT_QUEUE

        def work(connection: sqlite3.Connection) -> tuple[None, set[str]]:
            connection.execute(statement, values)
            return None, self._to_notify(connection, {queue})

        self._write_and_notify(work)

    def queue_limits(self) -> Mapping[str, QueueLimits]:
        """As ``Storage.queue_limits``."""
        rows = self._read(lambda connection: connection.execute(sql.QUEUE_LIMITS).fetchall())
        return {queue: _limits(row) for queue, *row in rows}

    def paused(self) -> Mapping[str, int]:
        """As ``Storage.paused``."""
        return self._read(lambda connection: dict(connection.execute(sql.PAUSED).fetchall()))


class _Outlived(NamedTuple):
    """What is not kept any longer."""

    jobs: dict[str, str]  #: id -> status
    logs: list[str]  #: ids of lines

    def counts(self) -> Pruned:
        dead = sum(status == JobStatus.DEAD for status in self.jobs.values())
        return Pruned(len(self.jobs) - dead, dead, len(self.logs))


def _outlived(connection: sqlite3.Connection, now: int, limit: int) -> _Outlived:
    """Up to ``limit`` jobs, and as many lines of logs."""
    jobs = dict(connection.execute(sql.PRUNABLE, {"now": now, "limit": limit}).fetchall())
    kept = _retention(connection)
    for status, seconds in (
        (JobStatus.COMPLETE, kept.finished),
        (JobStatus.CANCELLED, kept.finished),
        (JobStatus.DEAD, kept.dead),
    ):
        if seconds is not None and len(jobs) < limit:
            values = {"status": status, "before": now - round(seconds * 1000), "limit": limit - len(jobs)}
            jobs.update(connection.execute(sql.OUTLIVED, values).fetchall())
    if kept.logs is None:
        return _Outlived(jobs, [])
    values = {"before": now - round(kept.logs * 1000), "limit": limit}
    return _Outlived(jobs, [row[0] for row in connection.execute(sql.OUTLIVED_LOGS, values)])


def _retention(connection: sqlite3.Connection) -> Retention:
    return Retention(*connection.execute(sql.RETENTION).fetchone())


def _limits(row: Sequence[Any]) -> QueueLimits:
    concurrency, rate, burst, max_pending = row
    return QueueLimits(concurrency, None if rate is None else RateLimit(rate, burst), max_pending)


def repeat_job(connection: sqlite3.Connection, job_id: str, new_id: str, now: int) -> Stored | None:
    """Enqueue a finished job again and write it down; None if there is no such job."""
    return _repeat_from(sql.ORIGINAL, connection, job_id, new_id, now)


def repeat_dead(connection: sqlite3.Connection, job_id: str, new_id: str, now: int) -> Stored | None:
    """The same from its letter, which is dropped; None if it has none."""
    stored = _repeat_from(sql.LETTER, connection, job_id, new_id, now)
    if stored is not None and stored.receipts[0].inserted:
        connection.execute(sql.DROP_LETTER, {"id": job_id})
    return stored


def _repeat_from(
    source: str, connection: sqlite3.Connection, job_id: str, new_id: str, now: int
) -> Stored | None:
    row = connection.execute(source, {"id": job_id}).fetchone()
    if row is None:
        return None
    *made_from, status, error = row
    job: NewJob = columns.repeated(made_from, new_id)
    stored = insert(connection, [job], now)
    if stored.receipts[0].inserted:
        values = {"id": job_id, "new_id": new_id, "now": now, "status": status, "error": error}
        connection.execute(sql.KEEP_PARENTS, values)
        _revive(connection, job_id, new_id, now)
        connection.execute(sql.ADD_REPLAY, values)
    return stored


def _revive(connection: sqlite3.Connection, job_id: str, replay: str, now: int) -> None:
    """Have what was cancelled because of this job wait for its replay, and what follows from it in turn."""
    connection.execute(sql.RETARGET, {"id": job_id, "new_id": replay})
    parents = [replay]
    while parents:
        children = connection.execute(sql.CANCELLED_CHILDREN, {"ids": json.dumps(parents)}).fetchall()
        parents = []
        for child, task_name, error, problem in children:
            if problem is not None:
                connection.execute(sql.NAME_OTHER_PARENT, {"id": child, "error": problem})
            elif connection.execute(sql.REVIVE, {"id": child, "now": now}).fetchone() is not None:
                connection.execute(sql.FOLLOW_PARENTS, {"id": child})
                said = messages.REVIVED.format(job=job_id, replay=replay, error=error)
                entry = LogEntry(new_id(), child, task_name, 0, now, "info", said, None)
                connection.execute(job_log.ADD_LOG, entry._asdict())
                parents.append(child)


def delete(connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Delete those of these jobs that have finished and that no live job depends on; their ids."""
    if not ids:
        return []
    wanted = {"ids": json.dumps(list(ids))}
    needed = {row[0] for row in connection.execute(sql.NEEDED, wanted)}
    deletable = [row[0] for row in connection.execute(sql.DELETABLE, wanted) if row[0] not in needed]
    if deletable:
        for statement in sql.DELETE:
            connection.execute(statement, {"ids": json.dumps(deletable)})
    return deletable
