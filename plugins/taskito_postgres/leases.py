"""A worker's life: it registers, beats, listens and leaves; and what becomes of what one that is gone ran."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from taskito_core import Beat, Peer, Wakeups, WorkerInfo
from taskito_postgres import sql, upkeep
from taskito_postgres.arrays import Bigints, Texts
from taskito_postgres.follow import Aftermath, Follow
from taskito_postgres.listen import Ear
from taskito_postgres.session import Cursor, Session


class Leases(Follow):
    """``register``, and ``heartbeat`` to ``prune`` of the contract."""

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
            rows = stored.fetchall()
            mine, named = {(row[0], row[1]) for row in rows}, set(running)
            return Beat(
                alive=beat.fetchone() is not None,
                peers=[Peer(*row) for row in peers.fetchall()],
                unknown_to_me=sorted(mine - named),
                unknown_to_store=frozenset(job_id for job_id, _ in named - mine),
                now=_value(clock),
                cancels={row[0]: row[2] for row in rows if row[2] is not None},
            )

        return self._connections.on_worker(f"beat for worker {worker_id}", work)

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        dead = {"ids": Texts(suspects.keys()), "beats": Bigints(suspects.values())}

        def work(session: Session) -> list[str]:
            with session.turn() as turn:
                turn.run(self._statements[upkeep.DECLARE_DEAD], dead)
                taken = turn.run(self._statements[upkeep.RESCUE], {"shift": self.clock_shift})
            return self._taken_back(session, taken)

        return self._connections.on_worker("rescue the jobs of dead workers", work)

    def unregister(self, worker_id: str) -> None:
        parameters = {"worker": worker_id, "shift": self.clock_shift}

        def work(session: Session) -> None:
            with session.turn() as turn:
                turn.run(self._statements[upkeep.RETIRE], parameters)
                taken = turn.run(self._statements[upkeep.RELEASE_ALL], parameters)
            self._taken_back(session, taken)

        self._waits = None
        self._connections.on_worker(f"unregister worker {worker_id}", work)

    def _taken_back(self, session: Session, taken: Cursor) -> list[str]:
        """See to what follows rows (id, queue or None, ...) taken from a worker; None: cancelled. The ids."""
        rows = taken.fetchall()
        past = Aftermath(queues={row[1] for row in rows if row[1] is not None})
        past.ended((row[0], *row[2:]) for row in rows if row[1] is None)
        if past.goes_on:
            self._follow(session, past)
        self._announce(session, past)
        return [row[0] for row in rows]

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        # Its own id is what rings when one of its jobs is to be cancelled.
        return Ear(self._connections, self._work_channel, [*queues, worker_id], lambda: self.claimed)

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
