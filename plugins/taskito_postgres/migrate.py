"""The schema's versions: files in ``migrations/``, applied in order; all that are missing in one transaction.

An advisory lock lets one process apply what many want at the same moment; the others wait and find it done. A
role that may not create schemas works once the schema is there.
"""

from __future__ import annotations

import zlib
from functools import cache
from importlib import resources
from typing import NamedTuple, cast

from taskito_core import ConfigError, StorageUnavailable
from taskito_postgres.location import quoted
from taskito_postgres.session import Session

_STEM = ".sql"

_VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS schema_version (
    version    BIGINT NOT NULL,
    name       TEXT   NOT NULL,
    applied_at BIGINT NOT NULL,
    CONSTRAINT schema_version_pkey PRIMARY KEY (version)
)"""


class Migration(NamedTuple):
    version: int
    name: str  #: the file's name without ``.sql``, e.g. ``0001_initial``
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """Every migration of this plugin, oldest first."""
    files = (entry for entry in resources.files("taskito_postgres").joinpath("migrations").iterdir())
    found = [(entry.name.removesuffix(_STEM), entry) for entry in files if entry.name.endswith(_STEM)]
    return tuple(Migration(int(name[:4]), name, entry.read_text()) for name, entry in sorted(found))


def newest() -> int:
    return migrations()[-1].version


def applied_version(session: Session, schema: str) -> int:
    """The last migration applied; 0 if there is no schema, or none of ours in it. Changes nothing."""
    table = f"{quoted(schema)}.schema_version"
    [(found,)] = session.rows(b"SELECT to_regclass(%(table)b) IS NOT NULL", {"table": table})
    if not found:
        return 0
    [(version,)] = session.rows(f"SELECT coalesce(max(version), 0) FROM {table}".encode(), {})
    return cast(int, version)


def pending(session: Session, schema: str) -> list[str]:
    """Names of the migrations ``migrate`` would apply, oldest first."""
    _refuse_encoding(session)
    has_tables, has_keys = _found(session, schema)  # before the version: others may be migrating
    version = applied_version(session, schema)
    _refuse_newer(version, schema)
    if has_tables and not (has_keys and version):
        raise StorageUnavailable(
            f"schema {schema!r} has some of its tables and keys but not all, as while a backup is restored"
        )
    return [migration.name for migration in migrations() if migration.version > version]


def migrate(session: Session, schema: str) -> list[str]:
    """Apply what is missing; the names applied by this call, oldest first."""
    return _apply_missing(session, schema) if pending(session, schema) else []


def require(session: Session, schema: str, auto_migrate: bool) -> list[str]:
    """First use: the schema becomes current, or ConfigError says why not; the names of what was applied."""
    missing = pending(session, schema)
    if missing and not auto_migrate and missing[0] == migrations()[0].name:
        raise ConfigError(
            f"there is no schema {schema!r} with tables of taskito: look where the workers' is, "
            "or make one with `taskito migrate`"
        )
    if missing and not auto_migrate:
        raise ConfigError(
            f"schema {schema!r} lacks {len(missing)} migration(s), the next is {missing[0]}, and "
            "auto_migrate is off; run `taskito migrate`"
        )
    return migrate(session, schema) if missing else []


def script(schema: str) -> str:
    """The SQL of all migrations, for people who apply it themselves."""
    parts = [
        f"BEGIN;\nCREATE SCHEMA IF NOT EXISTS {quoted(schema)};\nSET LOCAL search_path = {quoted(schema)};"
    ]
    parts.append(_VERSION_TABLE.strip() + ";")
    for migration in migrations():
        parts += [f"-- {migration.name}", migration.sql.strip(), _record(migration)]
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"


def _apply_missing(session: Session, schema: str) -> list[str]:
    with session.transaction():
        execute = session.connection.execute
        # A second process waits here for as long as the first one's migrations take.
        execute("SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true)")
        execute("SELECT pg_advisory_xact_lock(%s)", (0x7A5C170 << 32 | zlib.crc32(schema.encode()),))
        _create_schema(session, schema)
        execute(f"SET LOCAL search_path = {quoted(schema)}".encode())
        execute(_VERSION_TABLE)
        row = execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
        version = row[0] if row else 0
        missing = [migration for migration in migrations() if migration.version > version]
        for migration in missing:
            execute(migration.sql.encode())
            execute(_record(migration).encode())
        return [migration.name for migration in missing]


def _create_schema(session: Session, schema: str) -> None:
    # CREATE ... IF NOT EXISTS asks for the privilege even when there is nothing to create.
    found = session.connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
    if found is None:
        session.connection.execute(f"CREATE SCHEMA {quoted(schema)}".encode())


def _record(migration: Migration) -> str:
    return (
        "INSERT INTO schema_version (version, name, applied_at) VALUES "
        f"({migration.version}, '{migration.name}', "
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);"
    )


def _found(session: Session, schema: str) -> tuple[bool, bool]:
    """Whether our tables and keys are there: a migration makes all or none, a restore one by one."""
    # The first of the tables by name, and so the first that pg_restore makes.
    asked = {"table": f"{quoted(schema)}.circuit_breakers", "key": f"{quoted(schema)}.jobs_live_pkey"}
    [(table, key)] = session.rows(
        b"SELECT to_regclass(%(table)b) IS NOT NULL, to_regclass(%(key)b) IS NOT NULL", asked
    )
    return table, key


def _refuse_encoding(session: Session) -> None:
    """A character that a row cannot hold would fail all that travels with it, in any later call."""
    [(encoding, database)] = session.rows(
        b"SELECT current_setting('server_encoding'), current_database()::text", {}
    )
    if encoding != "UTF8":
        raise ConfigError(
            f"database {database!r} keeps text as {encoding}, which cannot hold every character of a job; "
            f"use one that keeps UTF8: CREATE DATABASE {database}_utf8 ENCODING 'UTF8' LOCALE 'C' "
            "TEMPLATE template0"
        )


def _refuse_newer(version: int, schema: str) -> None:
    if version > newest():
        raise ConfigError(
            f"schema {schema!r} is at version {version}, this taskito-postgres knows {newest()}; "
            "upgrade it here: `pip install --upgrade taskito-postgres`"
        )
