"""A worker's life: it registers, sends heartbeats and leaves; and taking back what a dead one still runs."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from taskito_core import Beat, Peer, StorageConfig, StorageError, WorkerInfo, clean_text, messages
from taskito_sqlite.gates import SWING, cancel_and_cascade
from taskito_sqlite.sql import claim, clock, settle
from taskito_sqlite.sql import workers as sql
from taskito_sqlite.wakeups import WakeupsMixin


class WorkersMixin(WakeupsMixin):
    """``register``, ``heartbeat``, ``rescue`` and ``unregister`` of the contract."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        #: The store's clock at the last heartbeat, and ours, which nobody sets, at that moment.
        self._beaten: tuple[int, float] | None = None

    def register(self, worker: WorkerInfo) -> None:
        """As ``Storage.register``. From now on this object's connections do the checkpoints."""

        def work(connection: sqlite3.Connection) -> None:
            address, listens = self._early_wakeups.get(worker.id, (None, None))
            if connection.execute(claim.WORKER_STATE, {"worker": worker.id}).fetchone() is not None:
                raise StorageError(f"worker id {worker.id!r} was registered before: a worker needs a new one")
            values = {
                "worker": worker.id,
                "host": worker.host,
                "pid": worker.pid,
                "app": worker.app,
                "queues": json.dumps(worker.queues),
                "tasks": json.dumps(worker.tasks),
                "procs": worker.procs,
                "version": worker.version,
                "now": self.now(),
                "notify_address": address,
                "notify_queues": listens,
            }
            connection.execute(sql.REGISTER, values)

        self._checkpoints.mine()
        self._write(work, durable=False)
        self._early_wakeups.pop(worker.id, None)

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        """As ``Storage.heartbeat``."""
        named = set(running)
        before = self._beaten

        def work(connection: sqlite3.Connection) -> Beat:
            now = self.now()
            values = {"worker": worker_id, "now": now}
            expected = now if before is None else before[0] + round((time.monotonic() - before[1]) * 1000)
            connection.execute(clock.SEE_CLOCK, {"now": now, "swing": SWING, "expected": expected})
            alive = connection.execute(sql.HEARTBEAT, values).rowcount == 1
            peers = [Peer(*row) for row in connection.execute(sql.PEERS, values)]
            rows = connection.execute(sql.RUNNING, values).fetchall()
            stored = [(job_id, token) for job_id, token, _ in rows]
            lost = frozenset(job_id for job_id, _ in named.difference(stored))
            asked = {job_id: bool(force) for job_id, _, force in rows if force is not None}
            return Beat(alive, peers, [pair for pair in stored if pair not in named], lost, now, asked)

        beat = self._write(work, durable=False)
        self._beaten = (beat.now, time.monotonic())
        return beat

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        """As ``Storage.rescue``."""

        def work(connection: sqlite3.Connection) -> tuple[list[str], set[str]]:
            rescued = rescue(connection, suspects, self.now())
            return rescued.ids, self._to_notify(connection, rescued.queues)

        return self._write_and_notify(work)

    def unregister(self, worker_id: str) -> None:
        """As ``Storage.unregister``."""

        def work(connection: sqlite3.Connection) -> tuple[None, set[str]]:
            connection.execute(sql.UNREGISTER, {"worker": worker_id})
            queues = release_all(connection, worker_id, self.now())
            return None, self._to_notify(connection, queues)

        self._write_and_notify(work)
        self._checkpoints.others()


class Rescued(NamedTuple):
    """The jobs that were taken back from workers that are gone."""

    ids: list[str]
    queues: set[str]  #: that have jobs to claim again


def rescue(connection: sqlite3.Connection, suspects: Mapping[str, int], now: int) -> Rescued:
    """Declare the suspects dead whose beat stands still, and take back what no live worker runs."""
    for worker_id, beat in suspects.items():
        connection.execute(sql.DECLARE_DEAD, {"worker": worker_id, "beat": beat})
    rescued = Rescued([], set())
    asked_to_cancel: list[str] = []
    for job_id, token, worker_id in connection.execute(sql.ORPHANS).fetchall():
        error = messages.worker_lost(worker_id)
        values = {
            "id": job_id,
            "token": token,
            "now": now,
            "kind": error.kind,
            "type": error.type,
            "message": clean_text(error.message),
            "traceback": None,
            "error": clean_text(error.summary),
        }
        connection.execute(settle.ADD_ERROR, values)
        queue, force = connection.execute(sql.RESCUE, values).fetchone()
        rescued.ids.append(job_id)
        if force is None:
            rescued.queues.add(queue)
        else:
            asked_to_cancel.append(job_id)
    _, cascade = cancel_and_cascade(connection, asked_to_cancel, messages.CANCELLED_WHILE_RUNNING, now)
    return rescued._replace(queues=rescued.queues | cascade.queues)


def release_all(connection: sqlite3.Connection, worker_id: str, now: int) -> set[str]:
    """Hand back what a worker still runs; the queues that have jobs to claim again."""
    rows = connection.execute(sql.RELEASE_ALL, {"worker": worker_id}).fetchall()
    asked = [job_id for _, job_id, force in rows if force is not None]
    _, cascade = cancel_and_cascade(connection, asked, messages.CANCELLED_WHILE_RUNNING, now)
    return cascade.queues | {queue for queue, _, force in rows if force is None}
