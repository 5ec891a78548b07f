"""A worker's life: it registers, beats and leaves; and what becomes of the jobs of one that is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from taskito_core import Beat, Peer, StorageConfig, WorkerInfo
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.gates import SWING, Cascade, GatesMixin
from taskito_postgres.session import Cursor, Session
from taskito_postgres.sql import clock
from taskito_postgres.sql import workers as sql


class WorkersMixin(GatesMixin):
    """``register``, ``heartbeat``, ``rescue`` and ``unregister`` of the contract."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        #: The store's clock at the last heartbeat, and ours, which nobody sets, at that moment.
        self._beaten: tuple[int, float] | None = None

    def register(self, worker: WorkerInfo) -> None:
        parameters = {
            "worker": worker.id,
            "host": worker.host,
            "pid": worker.pid,
            "app": worker.app,
            "queues": json.dumps(worker.queues),
            "tasks": json.dumps(worker.tasks),
            "procs": worker.procs,
            "version": worker.version,
            "shift": self.clock_shift,
        }
        statement = self._statements[sql.REGISTER]

        def work(session: Session) -> None:
            with session.round_trip() as trip:
                trip.run(statement, parameters)

        self._marked = None
        self._connections.on_worker(f"register worker {worker.id}", work)

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        parameters = {"worker": worker_id, "shift": self.clock_shift}
        before = self._beaten

        def work(session: Session) -> Beat:
            expected = None if before is None else before[0] + round((time.monotonic() - before[1]) * 1000)
            with session.round_trip() as trip:
                trip.commit_lazily()
                trip.run(
                    self._statements[clock.SEE_CLOCK], {**parameters, "swing": SWING, "expected": expected}
                )
                beat = trip.run(self._statements[sql.HEARTBEAT], parameters)
                peers = trip.run(self._statements[sql.PEERS], parameters)
                stored = trip.run(self._statements[sql.RUNNING], parameters)
                told = trip.run(self._statements[clock.CLOCK], parameters)
            rows = stored.fetchall()
            [(now,)] = told.fetchall()
            mine, named = {(row[0], row[1]) for row in rows}, set(running)
            return Beat(
                alive=beat.fetchone() is not None,
                peers=[Peer(*row) for row in peers.fetchall()],
                unknown_to_me=sorted(mine - named),
                unknown_to_store=frozenset(job_id for job_id, _ in named - mine),
                now=now,
                cancels={row[0]: row[2] for row in rows if row[2] is not None},
            )

        beat = self._connections.on_worker(f"beat for worker {worker_id}", work)
        self._beaten = (beat.now, time.monotonic())
        return beat

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        dead = {"ids": Texts(suspects.keys()), "beats": Bigints(suspects.values())}

        def work(session: Session) -> list[str]:
            with session.round_trip() as trip:
                trip.run(self._statements[sql.DECLARE_DEAD], dead)
                taken = trip.run(self._statements[sql.RESCUE], {"shift": self.clock_shift})
            return self._cascade_after_taking(session, taken)

        return self._connections.on_worker("rescue the jobs of dead workers", work)

    def unregister(self, worker_id: str) -> None:
        parameters = {"worker": worker_id, "shift": self.clock_shift}

        def work(session: Session) -> None:
            with session.round_trip() as trip:
                trip.run(self._statements[sql.UNREGISTER], parameters)
                taken = trip.run(self._statements[sql.RELEASE_ALL], parameters)
            self._cascade_after_taking(session, taken)

        self._marked = None
        self._connections.on_worker(f"unregister worker {worker_id}", work)

    def _cascade_after_taking(self, session: Session, taken: Cursor) -> list[str]:
        """Follow up rows (id, queue or None, ...) that were taken from a worker; None: cancelled. The ids."""
        rows = taken.fetchall()
        cascade = Cascade(queues={row[1] for row in rows if row[1] is not None})
        cascade.add_ended((row[0], *row[2:]) for row in rows if row[1] is None)
        if cascade.pending:
            self._run_cascade(session, cascade)
        self._notify(session, cascade.awaited, cascade.queues)
        return [row[0] for row in rows]
