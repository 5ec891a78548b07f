"""What a storage and the limiter, breaker and metrics beside it share: connections, statements, a clock."""

from __future__ import annotations

import logging
from typing import Any

from taskito_core import StorageConfig, mask_url
from taskito_postgres import location, migrate
from taskito_postgres.connection import Connections
from taskito_postgres.session import Session, Statements
from taskito_postgres.sql.clock import CLOCK

log = logging.getLogger("taskito.postgres")


class Base:
    """One schema of one database.

    Constructing it does no I/O; the first call that needs the server connects.
    """

    def __init__(self, config: StorageConfig) -> None:
        location.check(config)
        self.config = config
        #: For tests only: milliseconds added to the store's clock in everything this object does.
        self.clock_shift = 0
        self._connections = Connections(config, self._first_use)
        self._statements = Statements(config.schema)

    def _first_use(self, session: Session) -> None:
        applied = migrate.require(session, self.config.schema, self.config.auto_migrate)
        if migrate.migrations()[0].name in applied:
            # Seen by all who read logs, and by those who have set up none.
            level = logging.INFO if log.isEnabledFor(logging.INFO) else logging.WARNING
            shown = mask_url(self.config.db_url or "")
            log.log(level, "there was no schema %r at %s: made a new one", self.config.schema, shown)

    def now(self) -> int:
        [(now,)] = self._read("read the clock", CLOCK, {"shift": self.clock_shift})
        return int(now)

    def close(self) -> None:
        """Give back every connection; later calls open again."""
        if self._connections.is_mine:  # else this is a forked child, and they are the parent's
            self._connections.close()

    # ---- one statement on a connection of the pool; ``doing`` completes "cannot ..." in an error ----

    def _written(self, doing: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement that changes something."""
        text = self._statements[statement]
        return self._connections.on_pool(doing, lambda session: session.rows(text, parameters))

    def _read(self, doing: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement that finds by id; sent again if its connection was lost."""
        text = self._statements[statement]
        return self._connections.on_pool(
            doing, lambda session: session.rows(text, parameters), repeatable=True
        )

    def _searched(self, doing: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The same for a statement that looks through tables: planned for the values it is sent with."""
        text = self._statements[statement]
        return self._connections.on_pool(
            doing, lambda session: session.searched(text, parameters), repeatable=True
        )
