"""``PostgresStorage``: the storage contract on PostgreSQL. Life here; the rest by noun next door."""

from __future__ import annotations

from taskito_core import Capability, StorageInfo
from taskito_postgres import location, migrate, queries, sql
from taskito_postgres.consume import Consume
from taskito_postgres.external import External
from taskito_postgres.managing import Manage
from taskito_postgres.notes import Notes
from taskito_postgres.periodic import Periodic
from taskito_postgres.session import Session


class PostgresStorage(Manage, Periodic, External, Consume, Notes):
    """Thread-safe. Constructing it does no I/O; the first call that needs the server connects."""

    capabilities = frozenset({Capability.WAKEUPS, Capability.MULTI_HOST, Capability.EXTERNAL_TRANSACTIONS})

    def migrate(self) -> list[str]:
        return self._connections.apart(
            "migrate the schema", lambda session: migrate.migrate(session, self.config.schema)
        )

    def pending_migrations(self) -> list[str]:
        return self._connections.apart(
            "look at the schema", lambda session: migrate.pending(session, self.config.schema)
        )

    def migration_sql(self) -> str:
        return migrate.script(self.config.schema)

    def close(self) -> None:
        if not self._connections.is_mine:
            return  # in a forked child: the threads and connections are the parent's
        self._finishes.close()
        self._ringer.close()
        self._connections.close()

    def info(self) -> StorageInfo:
        def work(session: Session) -> tuple[str, int]:
            [(server,)] = session.rows(self._statements[queries.SERVER], {})
            return server, migrate.applied_version(session, self.config.schema)

        server, version = self._connections.apart("ask the server who it is", work)
        return StorageInfo(
            backend="postgres",
            location=location.describe(self.config),
            server=f"PostgreSQL {server.partition(' ')[0]}",
            schema_version=version,
            newest_version=migrate.newest(),
        )

    def now(self) -> int:
        statement = self._statements[sql.CLOCK]
        [(now,)] = self._connections.on_pool(
            "read the clock", lambda session: session.rows(statement, {"shift": self.clock_shift})
        )
        return int(now)

    def __repr__(self) -> str:
        return f"<PostgresStorage {location.describe(self.config)}>"
