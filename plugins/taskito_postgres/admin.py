"""What people do with jobs and queues: cancel, repeat, delete, pause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import errors

from taskito_core import (
    JobStatus,
    LogEntry,
    Pruned,
    QueueLimits,
    RateLimit,
    Receipt,
    Retention,
    columns,
    messages,
    new_id,
)
from taskito_postgres.arrays import Bigints, Texts, storable, storable_texts
from taskito_postgres.batch import Batch
from taskito_postgres.gates import Cascade, GatesMixin, Run, lock_of
from taskito_postgres.job_log import entry_arrays
from taskito_postgres.session import Session
from taskito_postgres.sql import admin as sql
from taskito_postgres.sql import gates, job_log, wakeups
from taskito_postgres.sql.workers import FORGET_WORKERS


class AdminMixin(GatesMixin):
    """``cancel`` to ``paused`` of the contract, and ``prune``."""

    # ---- cancel ----

    def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        parameters = {"ids": storable_texts(ids), "reason": reason, "shift": self.clock_shift}

        def work(session: Session) -> list[str]:
            cascade = Cascade()
            cancelled = cascade.add_ended(session.rows(self._statements[sql.CANCEL], parameters))
            self._run_cascade(session, cascade)
            self._notify(session, cascade.awaited, cascade.queues)
            return cancelled

        return self._connections.on_pool(f"cancel {len(ids)} job(s)", work)

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        parameters = {"ids": storable_texts(ids), "force": force}

        def work(session: Session) -> list[str]:
            asked = session.rows(self._statements[sql.ASK_TO_CANCEL], parameters)
            if asked:
                workers = Texts({worker for _, worker in asked if worker is not None})
                notification = {"channel": self._work_channel, "payloads": workers}
                session.rows(self._statements[wakeups.NOTIFY], notification)
            return [job_id for job_id, _ in asked]

        return self._connections.on_pool(f"ask {len(ids)} job(s) to stop", work)

    # ---- repeat ----

    def replay(self, job_id: str, new_id: str) -> Receipt | None:
        return self._repeat(sql.ORIGINAL, job_id, new_id)

    def retry_dead(self, job_id: str, new_id: str) -> Receipt | None:
        return self._repeat(sql.TAKE_LETTER, job_id, new_id)

    def _repeat(self, source: str, job_id: str, new_id: str) -> Receipt | None:
        if not storable(job_id):
            return None

        def work(session: Session) -> Receipt | None:
            run = session.runner(self._statements)
            batch = Batch(run, self.config.schema, self.clock_shift)
            try:
                with session.transaction():
                    rows = run(source, {"id": job_id})
                    if not rows:
                        return None
                    [(*original, status, error)] = rows
                    job = columns.repeated(original, new_id)
                    [receipt] = batch.store([job])
                    if not receipt.inserted:
                        raise _NotInserted(receipt)
                    values = self._replay(job_id, new_id, status, error)
                    run(sql.KEEP_PARENTS, values)
                    batch.cascade.children += self._revive(run, job_id, new_id)
                    run(sql.ADD_REPLAY, values)
            except _NotInserted as kept:
                return kept.receipt
            except errors.UniqueViolation as met:
                # Just now a job came in that has the key of a revived one: the next try sees it.
                raise errors.SerializationFailure(str(met)) from met
            self._cascade_after_enqueue(session, batch.cascade, {job.queue})
            return receipt

        return self._connections.on_pool(f"run job {job_id} again", work)

    def _replay(self, job_id: str, new_id: str, status: str, error: str | None) -> dict[str, Any]:
        return {
            "id": job_id,
            "new_id": new_id,
            "status": status,
            "error": error,
            "shift": self.clock_shift,
        }

    def _revive(self, run: Run, job_id: str, replay: str) -> list[str]:
        """Have what was cancelled because of this job wait for its replay, and what follows from it in turn.

        Their ids. One such transaction at a time: of two whose replays have a child in common, the second
        must see what the first has done.
        """
        run(gates.LOCK_KEYS, {"locks": Bigints([lock_of(self.config.schema, _REVIVALS)])})
        run(sql.RETARGET, {"id": job_id, "new_id": replay})
        revived: list[str] = []
        parents = [replay]
        while parents:
            children = run(sql.CANCELLED_CHILDREN, {"ids": Texts(parents)})
            if staying := [(child, problem) for child, _, _, problem, _ in children if problem is not None]:
                ids, problems = zip(*staying, strict=True)
                run(sql.NAME_OTHER_PARENT, {"ids": Texts(ids), "errors": Texts(problems)})
            going = {child: (task, error) for child, task, error, problem, _ in children if problem is None}
            keyed = [child for child, _, _, _, key in children if child in going and key is not None]
            # Two of one unique key must not come back together.
            portions = [[child for child in going if child not in keyed], *([child] for child in keyed)]
            back: list[tuple[str, int]] = []
            for portion in filter(None, portions):
                back += run(sql.REVIVE, {"ids": Texts(portion), "shift": self.clock_shift})
            parents = [child for child, _ in back]
            entries = []
            for child, now in back:
                task_name, error = going[child]
                said = messages.REVIVED.format(job=job_id, replay=replay, error=error)
                entries.append(LogEntry(new_id(), child, task_name, 0, now, "info", said, None))
            if entries:
                run(job_log.ADD_LOG, entry_arrays(entries))
            revived += parents
        return revived

    # ---- delete ----

    def delete(self, ids: Sequence[str]) -> list[str]:
        return [row[0] for row in self._written("delete jobs", sql.DELETE, {"ids": storable_texts(ids)})]

    def purge(self, status: JobStatus, before: int, limit: int) -> int:
        statement = self._statements[sql.PURGE]
        parameters = {"status": status.value, "before": before, "limit": max(limit, 0)}
        return len(
            self._connections.on_pool(
                f"purge {status} jobs", lambda session: session.searched(statement, parameters)
            )
        )

    def prune(self, limit: int, dry_run: bool = False) -> Pruned:
        parameters = {"limit": limit, "shift": self.clock_shift}
        if dry_run:
            jobs = self._searched("find what is kept no longer", sql.OUTLIVED, parameters)
            lines = self._searched("find what is kept no longer", sql.OUTLIVED_LOGS, parameters)
            return _counts(jobs, len(lines))

        def work(session: Session) -> Pruned:
            with session.round_trip() as trip:
                trip.commit_lazily()
                jobs = trip.run(self._statements[sql.PRUNE], parameters)
                lines = trip.run(self._statements[sql.FORGET_LOGS], parameters)
                trip.run(self._statements[sql.FORGET_CALLS], parameters)
                trip.run(self._statements[FORGET_WORKERS], parameters)
                announced = trip.run(self._statements[sql.ANNOUNCE], {})
            pruned = _counts(jobs.fetchall(), lines.rowcount)
            row = announced.fetchone()
            return pruned._replace(announce=None if row is None else Retention(*row))

        return self._connections.on_worker("prune finished jobs", work)

    def retention(self) -> Retention:
        [row] = self._read("read the retention", sql.RETENTION, {})
        return Retention(*row)

    def retain(self, retention: Retention) -> None:
        seconds = {
            name: None if value is None else float(value) for name, value in retention._asdict().items()
        }
        self._written("set the retention", sql.RETAIN, seconds)

    # ---- queues ----

    def pause(self, queue: str) -> bool:
        parameters = {"queue": queue, "shift": self.clock_shift}
        return bool(self._written(f"pause queue {queue}", sql.PAUSE, parameters))

    def resume(self, queue: str) -> bool:
        resumed = bool(self._written(f"resume queue {queue}", sql.RESUME, {"queue": queue}))
        if resumed:
            self._notifier.notify_soon({queue})
        return resumed

    def limit_queue(self, queue: str, limits: QueueLimits) -> None:
        rate, burst = (None, None) if limits.rate is None else (limits.rate.rate, limits.rate.burst)
        parameters = {**limits._asdict(), "queue": queue, "rate": rate, "burst": burst}
        statement = sql.LIMIT_QUEUE
        if not any(one is not None for one in limits):
            statement, parameters = sql.UNLIMIT_QUEUE, {"queue": queue}
        self._written(f"limit queue {queue}", statement, {**parameters, "shift": self.clock_shift})
        self._notifier.notify_soon({queue})

    def queue_limits(self) -> Mapping[str, QueueLimits]:
        rows = self._read("list limits of queues", sql.QUEUE_LIMITS, {})
        return {
            queue: QueueLimits(concurrency, None if rate is None else RateLimit(rate, burst), max_pending)
            for queue, concurrency, rate, burst, max_pending in rows
        }

    def paused(self) -> Mapping[str, int]:
        return dict(self._read("list paused queues", sql.PAUSED, {}))


def _counts(jobs: Sequence[tuple[str, str]], lines: int) -> Pruned:
    dead = sum(status == JobStatus.DEAD for _, status in jobs)
    return Pruned(len(jobs) - dead, dead, lines)


#: Stands for all revivals among the keys that have a lock.
_REVIVALS = "\0revivals"


class _NotInserted(Exception):
    """Undoes the transaction of a replay that stored nothing."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt.id)
        self.receipt = receipt
