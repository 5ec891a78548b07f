"""What the parts of the storage share: its connections, its statements and its clock."""

from __future__ import annotations

import json
from collections.abc import Sequence

from taskito_core import StorageConfig
from taskito_postgres import location, migrate, sql
from taskito_postgres.aftermath import Aftermath, Loose
from taskito_postgres.arrays import Texts
from taskito_postgres.connection import Connections
from taskito_postgres.ring import Ringer
from taskito_postgres.session import Session
from taskito_postgres.sql import Statements

#: Bytes of ids in one notification; PostgreSQL refuses 8000.
MAX_NOTIFICATION = 7000


class Base:
    """Constructing it does no I/O."""

    def __init__(self, config: StorageConfig) -> None:
        location.check(config)
        self.config = config
        #: For tests only: milliseconds added to the store's clock in everything this object does.
        self.clock_shift = 0
        self._connections = Connections(config, self._first_use)
        self._statements = Statements(config.schema)
        self._work_channel = location.channel(config.schema, "work")
        self._done_channel = location.channel(config.schema, "done")
        self._ringer = Ringer(self._ring)

    def _first_use(self, session: Session) -> None:
        migrate.require(session, self.config.schema, self.config.auto_migrate)

    def _aftermath(self) -> Aftermath:
        return Aftermath(self._statements, self.config.schema, self.clock_shift)

    def _tell(self, session: Session, loose: Loose) -> None:
        """Tell who waits for jobs that ended."""
        if loose.awaited:
            with session.turn() as turn:
                turn.run(self._statements[sql.TELL], self._news(loose.awaited))
            loose.awaited.clear()

    def _news(self, job_ids: Sequence[str]) -> dict[str, object]:
        """Parameters of TELL."""
        return {"channel": self._done_channel, "payloads": Texts(chunks(job_ids))}

    def _ring(self, queues: list[str]) -> None:
        statement, parameters = self._statements[sql.RING], self._bell(queues)
        self._connections.on_pool("ring the workers", lambda session: session.rows(statement, parameters))

    def _bell(self, queues: list[str], ringing: str = "") -> dict[str, object]:
        """Parameters of RING; ``ringing`` is the worker that need not be told."""
        return {"channel": self._work_channel, "queues": Texts(queues), "worker": ringing}


def chunks(ids: Sequence[str]) -> list[str]:
    """JSON lists of ids, each short enough for one notification."""
    done, chunk, size = [], list[str](), 0
    for job_id in ids:
        weight = len(json.dumps(job_id)) + 2
        if chunk and size + weight > MAX_NOTIFICATION:
            done.append(json.dumps(chunk))
            chunk, size = [], 0
        chunk.append(job_id)
        size += weight
    return [*done, json.dumps(chunk)] if chunk else done
