"""What the parts of the storage share: its connections, its statements and its clock."""

from __future__ import annotations

from taskito_core import StorageConfig
from taskito_postgres import location, migrate, sql
from taskito_postgres.arrays import Texts
from taskito_postgres.connection import Connections
from taskito_postgres.ring import Ringer
from taskito_postgres.session import Session
from taskito_postgres.sql import Statements


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

    def _ring(self, queues: list[str]) -> None:
        statement, parameters = self._statements[sql.RING], self._bell(queues)
        self._connections.on_pool("ring the workers", lambda session: session.rows(statement, parameters))

    def _bell(self, queues: list[str], ringing: str = "") -> dict[str, object]:
        """Parameters of RING; ``ringing`` is the worker that need not be told."""
        return {"channel": self._work_channel, "queues": Texts(queues), "worker": ringing}
