"""``PostgresStorage``: the storage contract on PostgreSQL. Opening and closing is here, the rest by noun."""

from __future__ import annotations

from collections.abc import Iterator

from taskito_core import Capability, Finding, StorageInfo, messages
from taskito_postgres import location, migrate
from taskito_postgres.admin import AdminMixin
from taskito_postgres.claim import ClaimMixin
from taskito_postgres.enqueue import EnqueueMixin
from taskito_postgres.job_log import JobLogMixin
from taskito_postgres.periodic import PeriodicMixin
from taskito_postgres.read import ReadMixin
from taskito_postgres.session import Session, is_pooled
from taskito_postgres.settle import SettleMixin
from taskito_postgres.sql.doctor import OLD_SNAPSHOTS, SERVER_STATE, SET_BACK
from taskito_postgres.sql.read import SERVER
from taskito_postgres.workers import WorkersMixin

#: Seconds after which a transaction that is still open keeps too many dead rows.
LONG_TRANSACTION = 60.0


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

    def examine(self) -> list[Finding]:
        """As ``taskito_examine``."""
        doing = "examine the server"
        [state] = self._read(doing, SERVER_STATE, {"schema": location.quoted(self.config.schema)})
        open_for_long = self._read(doing, OLD_SNAPSHOTS, {"seconds": LONG_TRANSACTION})
        [set_back] = self._read(doing, SET_BACK, {})
        pooled = self._connections.apart(doing, lambda session: is_pooled(session.connection))
        return [
            *_examined_server(*state),
            *(_old_snapshot(*row) for row in open_for_long),
            *_examined_pooler(pooled),
            *_examined_clock(*set_back),
        ]

    def __repr__(self) -> str:
        return f"<PostgresStorage {location.describe(self.config)}>"


def _examined_server(
    sees_all: bool,
    most: int,
    connected: int,
    vacuums: bool,
    is_durable: bool,
    waits_for_standby: bool,
    unvacuumed: str,
    dead_rows: int | None,
) -> Iterator[Finding]:
    if waits_for_standby:
        yield Finding(
            "synchronous_standby_names is set, and no such standby is connected",
            "every commit waits for it: nothing is enqueued, claimed or recorded",
            "bring it back, or: ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()",
        )
    if not is_durable:
        yield Finding(
            "fsync or full_page_writes is off",
            "a power cut may lose jobs that were acknowledged, or the whole database",
            "ALTER SYSTEM RESET fsync; ALTER SYSTEM RESET full_page_writes; SELECT pg_reload_conf()",
        )
    if connected > 0.8 * most:
        yield Finding(
            f"{connected} of {most} connections of the server are taken",
            "a worker needs three, and one for each child that uses the queue; who gets none waits",
            "raise max_connections, lower pool_size, or put a pooler between",
        )
    if not vacuums or unvacuumed:
        where = f"of {unvacuumed} " if vacuums else ""
        yield Finding(
            f"autovacuum {where}is off",
            "every job leaves dead rows, and claims get slower with each of them",
            "ALTER SYSTEM RESET autovacuum; ALTER SYSTEM RESET track_counts; SELECT pg_reload_conf()"
            if not vacuums
            else "ALTER TABLE ... RESET (autovacuum_enabled)",
        )
    if dead_rows is not None:
        yield Finding(
            f"jobs_live has {dead_rows} dead rows",
            "claims read past them, and get slower with each",
            "VACUUM jobs_live; if that does not help, an old transaction keeps them",
        )
    if not sees_all:
        yield Finding(
            "this role does not see what the sessions of others do",
            "long transactions and standbys were looked for among its own only",
            "GRANT pg_read_all_stats TO the role, or examine with another one",
            is_note=True,
        )


def _old_snapshot(who: str, seconds: float, mend: str) -> Finding:
    return Finding(
        f"{who} has had a transaction open for {seconds:.0f} s",
        "dead rows that are younger stay, and claims get slower with each of them",
        mend,
    )


def _examined_pooler(pooled: bool) -> Iterator[Finding]:
    if pooled:
        yield Finding(
            "a pooler in transaction mode is between here and the server",
            "LISTEN does not work through it: workers find jobs by polling, up to a second late",
            "give workers a db_url that leads to the server itself",
            is_note=True,
        )


def _examined_clock(set_back_at: int | None, set_back_by: int) -> Iterator[Finding]:
    if set_back_at is not None:
        yield Finding(*messages.clock_set_back(set_back_at, set_back_by), is_note=True)
