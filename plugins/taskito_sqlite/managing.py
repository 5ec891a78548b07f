"""``Managing`` of the contract: what can be done with stored jobs beside running them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from taskito_core import (
    Complete,
    Edge,
    Facts,
    JobStatus,
    LogEntry,
    LogFilter,
    NewJob,
    Note,
    PeriodicEntry,
    PeriodicState,
    Receipt,
    Replay,
    Swept,
)
from taskito_sqlite import acts, facts, periodic, produce, relations, rescue, sql
from taskito_sqlite.base import Base
from taskito_sqlite.lookout import Expected
from taskito_sqlite.repeat import again_from_job, again_from_letter


class Managing(Base):
    """Each method is one transaction, then the bells it has to ring."""

    # ---- cancel, repeat, delete ----

    def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        """As ``Storage.cancel``."""

        def work(connection: sqlite3.Connection) -> tuple[list[str], set[str]]:
            cancelled, ripples = relations.cancel(connection, ids, reason, self.now())
            return cancelled, self._bells(connection, ripples.queues)

        return self._write_and_ring(work)

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        """As ``Storage.ask_to_cancel``."""

        def work(connection: sqlite3.Connection) -> tuple[list[str], set[str]]:
            asked, bells = [], set()
            for job_id in dict.fromkeys(ids):
                found = connection.execute(acts.ASK_TO_CANCEL, (job_id, self.now(), force)).fetchone()
                if found is not None:
                    asked.append(job_id)
                    bells |= {row[0] for row in connection.execute(acts.DOORBELL, found)}
            return asked, bells

        return self._write_and_ring(work)

    def replay(self, job_id: str, new_id: str) -> Receipt | None:
        """As ``Storage.replay``."""
        return self._repeat(lambda connection, now: again_from_job(connection, job_id, new_id, now))

    def retry_dead(self, job_id: str, new_id: str) -> Receipt | None:
        """As ``Storage.retry_dead``."""
        return self._repeat(lambda connection, now: again_from_letter(connection, job_id, new_id, now))

    def _repeat(self, again: Callable[[sqlite3.Connection, int], produce.Stored | None]) -> Receipt | None:
        def work(connection: sqlite3.Connection) -> tuple[Receipt | None, set[str]]:
            stored = again(connection, self.now())
            if stored is None:
                return None, set()
            return stored.receipts[0], self._bells(connection, stored.queues)

        return self._write_and_ring(work)

    def delete(self, ids: Sequence[str]) -> list[str]:
        """As ``Storage.delete``."""
        return self._write(lambda connection: rescue.delete(connection, ids)) if ids else []

    def purge(self, status: JobStatus, before: int, limit: int) -> int:
        """As ``Storage.purge``."""

        def work(connection: sqlite3.Connection) -> int:
            ended = [row[0] for row in connection.execute(acts.ENDED_BEFORE, (status, before, limit))]
            return len(rescue.delete(connection, ended))

        return self._write(work)

    # ---- queues ----

    def pause(self, queue: str) -> bool:
        """As ``Storage.pause``."""
        return self._write(
            lambda connection: connection.execute(acts.PAUSE, (queue, self.now())).rowcount == 1
        )

    def resume(self, queue: str) -> bool:
        """As ``Storage.resume``."""

        def work(connection: sqlite3.Connection) -> tuple[bool, set[str]]:
            resumed = connection.execute(acts.RESUME, (queue,)).rowcount == 1
            return resumed, self._bells(connection, {queue} if resumed else set())

        return self._write_and_ring(work)

    def paused(self) -> Mapping[str, int]:
        """As ``Storage.paused``."""
        return self._read(lambda connection: dict(connection.execute(acts.PAUSED_SINCE).fetchall()))

    # ---- upkeep by the workers ----

    def sweep(self, limit: int) -> Swept:
        """As ``Storage.sweep``. Looks first: most sweeps find nothing and need not write."""
        now = self.now()
        found = self._read(lambda connection: _to_sweep(connection, now))
        if not found:
            return self._read(lambda connection: Swept([], [], [], next_sweep(connection), now))

        def work(connection: sqlite3.Connection) -> tuple[Swept, set[str]]:
            expired = connection.execute(acts.EXPIRED, (now, limit)).fetchall()
            for job_id, expires_at in expired:
                relations.end(connection, [job_id], _expiry(expires_at), now)
            ripples = relations.Ripples(connection, now)
            for (key,) in connection.execute(acts.KEYS_DUE, (now, limit)).fetchall():
                ripples.look_at(key)
            ripples.settle()
            ids = [job_id for job_id, _ in expired]
            swept = Swept(ids, ripples.cancelled, ripples.opened, next_sweep(connection), now)
            return swept, self._bells(connection, ripples.queues)

        return self._write_and_ring(work)

    def note(self, notes: Sequence[Note]) -> None:
        """As ``Storage.note``. Who waits in ``await_logs`` watches the file."""
        if notes:
            self._write(lambda connection: facts.note(connection, notes), durable=False)

    # ---- schedules ----

    def register_periodic(self, app: str, entries: Sequence[tuple[PeriodicEntry, int]]) -> list[str]:
        """As ``Storage.register_periodic``."""
        return self._write(lambda connection: periodic.register(connection, app, entries, self.now()))

    def due_periodic(self, app: str) -> list[PeriodicState]:
        """As ``Storage.due_periodic``."""
        return self._read(lambda connection: periodic.due(connection, app, self.now()))

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        """As ``Storage.fire_periodic``."""

        def work(connection: sqlite3.Connection) -> tuple[bool, set[str]]:
            stored = periodic.fire(connection, state, jobs, next_run, self.now())
            return stored is not None, self._bells(connection, stored.queues if stored else set())

        return self._write_and_ring(work)

    def periodic(self) -> list[PeriodicState]:
        """As ``Storage.periodic``."""
        return self._read(periodic.everything)

    def enable_periodic(self, name: str, enabled: bool, next_run: int | None) -> bool:
        """As ``Storage.enable_periodic``."""
        return self._write(lambda connection: periodic.enable(connection, name, enabled, next_run))

    # ---- inside a transaction of the task's own ----

    def complete_in(self, connection: object, outcome: Complete) -> bool:
        """As ``Storage.complete_in``; places and children go on with the next settle or sweep of anybody."""

        def work(found: sqlite3.Connection) -> bool:
            return found.execute(sql.COMPLETE, (*outcome, self.now())).rowcount == 1

        def expected(completed: bool) -> Expected | None:
            return Expected(outcome.job_id, True, frozenset()) if completed else None

        return self._within(connection, work, expected)

    # ---- look ----

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        """As ``Storage.edges``."""
        return self._read(lambda connection: facts.edges(connection, ids)) if ids else []

    def replays(self, job_id: str) -> list[Replay]:
        """As ``Storage.replays``."""
        return self._read(lambda connection: facts.replays(connection, job_id))

    def logs(self, where: LogFilter, limit: int) -> list[LogEntry]:
        """As ``Storage.logs``."""
        return self._read(lambda connection: facts.logs(connection, where, limit))

    def await_logs(self, job_id: str, after: str | None, timeout: float) -> bool:
        """As ``Storage.await_logs``; looks whenever somebody commits."""
        self._ready()

        def said(connection: sqlite3.Connection) -> bool:
            return facts.has_logs(connection, job_id, after)

        return self._waiting.wait_for_news(job_id, lambda: self._database.read(said), timeout)

    def facts(self, job_id: str) -> Facts | None:
        """As ``Storage.facts``."""
        return self._read(lambda connection: facts.facts(connection, job_id, self.now()))


def _to_sweep(connection: sqlite3.Connection, now: int) -> bool:
    due = (connection.execute(one, (now, 1)).fetchone() for one in (acts.EXPIRED, acts.KEYS_DUE))
    return any(row is not None for row in due) or relations.outstanding(connection)


def next_sweep(connection: sqlite3.Connection) -> int | None:
    """When ``sweep`` has something to do next."""
    found = [connection.execute(statement).fetchone() for statement in (acts.NEXT_EXPIRY, acts.NEXT_LATER)]
    return min((int(row[0]) for row in found if row is not None), default=None)


def _expiry(moment: int) -> str:
    return (
        f"expired: not started by {datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec='seconds')}"
    )
