"""The Storage contract on one SQLite file: each method is one transaction, then the bells it has to ring."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence

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
    Want,
    WorkerInfo,
)
from taskito_sqlite import (
    claim,
    doorbell,
    look,
    migrate,
    produce,
    rescue,
    settle,
    sql,
    upkeep,
)
from taskito_sqlite.base import Base
from taskito_sqlite.lookout import Expected
from taskito_sqlite.managing import Managing, next_sweep


class SqliteStorage(Managing, Base):
    """taskito's storage in one SQLite file."""

    capabilities: frozenset[Capability] = frozenset({Capability.WAKEUPS, Capability.EXTERNAL_TRANSACTIONS})

    # ---- life ----

    def pending_migrations(self) -> list[str]:
        """As ``Storage.pending_migrations``; a file that does not exist is not made."""
        return [migration.name for migration in migrate.pending(self._version())]

    def migration_sql(self) -> str:
        """As ``Storage.migration_sql``."""
        return migrate.script()

    def close(self) -> None:
        """As ``Storage.close``."""
        if self._database.foreign:
            return
        self._lookout.close()
        self._waiting.close()
        self._current = False
        self._database.close()

    def info(self) -> StorageInfo:
        """As ``Storage.info``."""
        server = f"SQLite {sqlite3.sqlite_version}"
        return StorageInfo("sqlite", self.path, server, self._version(), migrate.newest())

    # ---- produce ----

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        """As ``Storage.enqueue``."""
        if not jobs:
            return []
        if connection is not None:
            return self._enqueue_in(connection, jobs)

        def work(
            insert: Callable[..., produce.Stored], connection: sqlite3.Connection
        ) -> tuple[list[Receipt], set[str]]:
            stored = insert(connection, jobs, self.now())
            return stored.receipts, self._listeners(connection, stored.queues)

        try:
            return self._write_and_ring(functools.partial(work, produce.insert))
        except produce.SentBefore:
            return self._write_and_ring(functools.partial(work, produce.insert_again))

    def _enqueue_in(self, connection: object, jobs: Sequence[NewJob]) -> list[Receipt]:
        def expected(stored: produce.Stored) -> Expected | None:
            inserted = [receipt.id for receipt in stored.receipts if receipt.inserted]
            # One stands for all: they are committed together.
            if not inserted or not stored.queues:
                return None
            return Expected(inserted[0], False, frozenset(stored.queues))

        def work(found: sqlite3.Connection) -> produce.Stored:
            return produce.insert_again(found, jobs, self.now())

        return self._within(connection, work, expected).receipts

    def peek(self, queues: Sequence[str], lanes: Sequence[str]) -> Mapping[str, int]:
        """As ``Storage.peek``."""
        return self._read(lambda connection: claim.peek(connection, queues, lanes, self.now()))

    # ---- consume ----

    def register(self, worker: WorkerInfo) -> None:
        """As ``Storage.register``. From now on this object's connections do the checkpoints."""

        def work(connection: sqlite3.Connection) -> None:
            address, listens = self._early_ears.get(worker.id, (None, None))
            if connection.execute(sql.WORKER, (worker.id,)).fetchone() is not None:
                raise StorageError(f"worker id {worker.id!r} was registered before: a worker needs a new one")
            values = {
                "id": worker.id,
                "host": worker.host,
                "pid": worker.pid,
                "app": worker.app,
                "queues": json.dumps(worker.queues),
                "tasks": json.dumps(worker.tasks),
                "procs": worker.procs,
                "version": worker.version,
                "now": self.now(),
                "doorbell": address,
                "listens": listens,
            }
            connection.execute(upkeep.REGISTER, values)

        self._checkpoints.mine()
        self._write(work, durable=False)
        self._early_ears.pop(worker.id, None)

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        """As ``Storage.exchange``.

        One write transaction sees all of it: what was enqueued before is found, and who enqueues after
        sees that this worker waits. So the second look that the contract asks for is the first one here.
        A claim alone need not survive a power cut: nothing of what it started does either.
        """

        def work(connection: sqlite3.Connection) -> tuple[Exchange, set[str]]:
            now = self.now()
            settled = settle.settle(connection, outcomes, now)
            bells = set(settled.awaited)
            if settled.queues:
                bells |= self._listeners(connection, settled.queues, but=worker_id)
            alive, waiting = connection.execute(sql.WORKER, (worker_id,)).fetchone() or (False, False)
            opened = bool(settled.queues)
            if not alive or want is None or want.limit <= 0:
                # Who only settles may be waiting still: the mark is not for this exchange to clear.
                return Exchange(settled.recorded, [], None, now, bool(alive), opened=opened), bells
            claims, next_due = claim.claim(connection, worker_id, want, now)
            short = len(claims) < want.limit
            if waiting != short:
                connection.execute(sql.SET_WAITING, (worker_id, not waiting))
            sweep_at = next_sweep(connection) if short else None
            return Exchange(settled.recorded, claims, next_due, now, True, sweep_at, opened), bells

        answer, bells = self._write(work, durable=bool(outcomes))
        self._ring(bells)
        if want is not None and not answer.claims:
            self._checkpoints.idle()
        return answer

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        """As ``Storage.heartbeat``."""
        named = set(running)

        def work(connection: sqlite3.Connection) -> Beat:
            now = self.now()
            alive = connection.execute(upkeep.HEARTBEAT, (worker_id, now)).rowcount == 1
            peers = [Peer(*row) for row in connection.execute(upkeep.PEERS, (worker_id,))]
            rows = connection.execute(upkeep.RUNS, (worker_id,)).fetchall()
            stored = [(job_id, token) for job_id, token, _ in rows]
            lost = frozenset(job_id for job_id, _ in named.difference(stored))
            asked = {job_id: bool(force) for job_id, _, force in rows if force is not None}
            return Beat(alive, peers, [pair for pair in stored if pair not in named], lost, now, asked)

        return self._write(work, durable=False)

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        """As ``Storage.rescue``."""

        def work(connection: sqlite3.Connection) -> tuple[list[str], set[str]]:
            rescued = rescue.rescue(connection, suspects, self.now())
            return rescued.ids, self._bells(connection, rescued.queues)

        return self._write_and_ring(work)

    def unregister(self, worker_id: str) -> None:
        """As ``Storage.unregister``."""

        def work(connection: sqlite3.Connection) -> set[str]:
            connection.execute(upkeep.UNREGISTER, (worker_id,))
            return self._bells(connection, rescue.release_all(connection, worker_id, self.now()))

        self._ring(self._write(work))
        self._checkpoints.others()

    def listen(self, worker_id: str, queues: Sequence[str]) -> doorbell.Ear:
        """As ``Storage.listen``; the worker may register before or after."""
        self._ready()
        doorbell.sweep()
        ear = doorbell.Ear(self._database, doorbell.open_bell())
        listens = json.dumps(list(queues))
        try:
            found = self._write(
                lambda connection: (
                    connection.execute(sql.SET_DOORBELL, (worker_id, ear.address, listens)).rowcount
                ),
                durable=False,
            )
        except BaseException:
            ear.close()
            raise
        if not found:
            self._early_ears[worker_id] = (ear.address, listens)
        return ear

    def prune(self, limit: int) -> int:
        """As ``Storage.prune``."""
        return self._write(lambda connection: rescue.prune(connection, limit, self.now()), durable=False)

    # ---- look ----

    def get(self, ids: Sequence[str]) -> list[Job]:
        """As ``Storage.get``."""
        return self._read(lambda connection: look.get(connection, ids)) if ids else []

    def await_finished(self, job_id: str, timeout: float) -> bool:
        """As ``Storage.await_finished``."""
        self._ready()
        return self._waiting.wait(job_id, timeout)

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None) -> Page:
        """As ``Storage.list_jobs``."""
        return self._read(lambda connection: look.list_jobs(connection, where, limit, cursor))

    def counts(self, exact: bool = False) -> CountReport:
        """As ``Storage.counts``."""
        return self._read(lambda connection: look.counts(connection, exact))

    def errors(self, job_id: str) -> list[AttemptError]:
        """As ``Storage.errors``."""
        return self._read(lambda connection: look.errors(connection, job_id))

    def dead_letters(self, limit: int, cursor: str | None) -> DeadPage:
        """As ``Storage.dead_letters``."""
        return self._read(lambda connection: look.dead_letters(connection, limit, cursor))

    def letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        """As ``Storage.letters``."""
        return self._read(lambda connection: look.letters(connection, ids)) if ids else []

    def workers(self) -> list[WorkerInfo]:
        """As ``Storage.workers``."""
        return self._read(look.workers)
