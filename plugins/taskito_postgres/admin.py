"""What people do with jobs and queues: cancel, repeat, delete, pause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskito_core import JobStatus, Receipt, columns
from taskito_postgres.arrays import Texts, storable, storable_texts
from taskito_postgres.batch import Batch
from taskito_postgres.gates import Cascade, GatesMixin
from taskito_postgres.session import Session
from taskito_postgres.sql import admin as sql
from taskito_postgres.sql import wakeups
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
                    run(sql.ADD_REPLAY, self._replay(job_id, new_id, status, error))
            except _NotInserted as kept:
                return kept.receipt
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

    def prune(self, limit: int) -> int:
        parameters = {"limit": limit, "shift": self.clock_shift}

        def work(session: Session) -> int:
            with session.round_trip() as trip:
                trip.commit_lazily()
                pruned = trip.run(self._statements[sql.PRUNE], parameters)
                trip.run(self._statements[FORGET_WORKERS], parameters)
            return len(pruned.fetchall())

        return self._connections.on_worker("prune finished jobs", work)

    # ---- queues ----

    def pause(self, queue: str) -> bool:
        parameters = {"queue": queue, "shift": self.clock_shift}
        return bool(self._written(f"pause queue {queue}", sql.PAUSE, parameters))

    def resume(self, queue: str) -> bool:
        resumed = bool(self._written(f"resume queue {queue}", sql.RESUME, {"queue": queue}))
        if resumed:
            self._notifier.notify_soon({queue})
        return resumed

    def paused(self) -> Mapping[str, int]:
        return dict(self._read("list paused queues", sql.PAUSED, {}))


class _NotInserted(Exception):
    """Undoes the transaction of a replay that stored nothing."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt.id)
        self.receipt = receipt
