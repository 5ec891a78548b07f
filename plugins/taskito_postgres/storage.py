"""``PostgresStorage``: the storage contract on PostgreSQL. Opening and closing is here, the rest by noun."""

from __future__ import annotations

from taskito_core import Capability, StorageInfo
from taskito_postgres import location, migrate
from taskito_postgres.admin import AdminMixin
from taskito_postgres.claim import ClaimMixin
from taskito_postgres.enqueue import EnqueueMixin
from taskito_postgres.job_log import JobLogMixin
from taskito_postgres.periodic import PeriodicMixin
from taskito_postgres.read import ReadMixin
from taskito_postgres.session import Session
from taskito_postgres.settle import SettleMixin
from taskito_postgres.sql.read import SERVER
from taskito_postgres.workers import WorkersMixin


class PostgresStorage(
    EnqueueMixin,
    ClaimMixin,
    SettleMixin,
    WorkersMixin,
    AdminMixin,
    ReadMixin,
    JobLogMixin,
    PeriodicMixin,
):
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
        self._finished.close()
        self._notifier.close()
        super().close()

    def info(self) -> StorageInfo:
        def work(session: Session) -> tuple[str, int]:
            [(server,)] = session.rows(self._statements[SERVER], {})
            return server, migrate.applied_version(session, self.config.schema)

        server, version = self._connections.apart("ask the server who it is", work)
        return StorageInfo(
            backend="postgres",
            location=location.describe(self.config),
            server=f"PostgreSQL {server.partition(' ')[0]}",
            schema_version=version,
            newest_version=migrate.newest(),
        )

    def __repr__(self) -> str:
        return f"<PostgresStorage {location.describe(self.config)}>"
