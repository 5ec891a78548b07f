"""A worker's life in the store: register, beat, rescue, leave, prune. On the worker's own connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from taskito_core import Beat, Peer, Wakeups, WorkerInfo
from taskito_postgres import sql, upkeep
from taskito_postgres.aftermath import Loose
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.base import Base
from taskito_postgres.listen import Ear
from taskito_postgres.session import Cursor, Session


class Leases(Base):
    """``register`` to ``prune`` of the contract, ``exchange`` left out."""

    _waits: str | None = None  #: what the worker of this object was last marked as waiting for
    claimed: int = 0  #: claims so far; an Ear that polls slows down only while it stands still

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
        statement = self._statements[upkeep.REGISTER]

        def work(session: Session) -> None:
            with session.turn() as turn:
                turn.run(statement, parameters)

        self._waits = None
        self._connections.on_worker(f"register worker {worker.id}", work)

    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        parameters = {"worker": worker_id, "shift": self.clock_shift}

        def work(session: Session) -> Beat:
            with session.turn() as turn:
                turn.commit_lazily()
                beat = turn.run(self._statements[upkeep.BEAT], parameters)
                peers = turn.run(self._statements[upkeep.PEERS], parameters)
                stored = turn.run(self._statements[upkeep.RUNNING], parameters)
                clock = turn.run(self._statements[sql.CLOCK], parameters)
            held = stored.fetchall()
            mine, named = {(row[0], row[1]) for row in held}, set(running)
            return Beat(
                alive=beat.fetchone() is not None,
                peers=[Peer(*row) for row in peers.fetchall()],
                unknown_to_me=sorted(mine - named),
                unknown_to_store=frozenset(job_id for job_id, _ in named - mine),
                now=_value(clock),
                cancels={row[0]: row[2] for row in held if row[2] is not None},
            )

        return self._connections.on_worker(f"beat for worker {worker_id}", work)

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        dead = {"ids": Texts(suspects.keys()), "beats": Bigints(suspects.values())}

        def work(session: Session) -> list[str]:
            with session.turn() as turn:
                turn.run(self._statements[upkeep.DECLARE_DEAD], dead)
                hit = turn.run(self._statements[upkeep.RESCUE], {"shift": self.clock_shift})
            return self._take_back(session, hit.fetchall())

        return self._connections.on_worker("rescue the jobs of dead workers", work)

    def unregister(self, worker_id: str) -> None:
        parameters = {"worker": worker_id, "shift": self.clock_shift}

        def work(session: Session) -> list[str]:
            with session.turn() as turn:
                turn.run(self._statements[upkeep.RETIRE], parameters)
                hit = turn.run(self._statements[upkeep.RELEASE_ALL], parameters)
            return self._take_back(session, hit.fetchall())

        self._waits = None
        self._connections.on_worker(f"unregister worker {worker_id}", work)

    def _take_back(self, session: Session, hit: Sequence[tuple[Any, ...]]) -> list[str]:
        """Jobs that were taken from a worker: pending again, if they have a queue, or ended."""
        loose = Loose(queues={row[1] for row in hit if row[1] is not None})
        loose.ended((row[0], *row[2:]) for row in hit if row[1] is None)
        self._aftermath().tie_up(session, loose)
        self._tell(session, loose)
        if loose.queues:
            self._ringer.later(loose.queues)
        return [row[0] for row in hit]

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        # Beside its queues it listens for its own id: see ``controls.ALARM``.
        heard = (*queues, worker_id)
        return Ear(self._connections, self._work_channel, heard, lambda: self.claimed)

    def prune(self, limit: int) -> int:
        parameters = {"limit": limit, "shift": self.clock_shift}

        def work(session: Session) -> int:
            with session.turn() as turn:
                turn.commit_lazily()
                pruned = turn.run(self._statements[upkeep.PRUNE], parameters)
                turn.run(self._statements[upkeep.FORGET_WORKERS], parameters)
            return len(pruned.fetchall())

        return self._connections.on_worker("prune finished jobs", work)


def _value(cursor: Cursor) -> int:
    row = cursor.fetchone()
    assert row is not None
    value: int = row[0]
    return value
