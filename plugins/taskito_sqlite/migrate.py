"""The schema's versions: which exist, which are applied, and applying the rest.

Files ``migrations/NNNN_words.sql`` in order; never edited after a release. The table
``taskito_schema`` says which are in.
"""

from __future__ import annotations

import functools
import sqlite3
from importlib import resources
from typing import NamedTuple

from taskito_core import ConfigError, StorageError

_VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS taskito_schema (
  version    INTEGER PRIMARY KEY,
  name       TEXT    NOT NULL,
  applied_at INTEGER NOT NULL
)
"""


class Migration(NamedTuple):
    version: int
    name: str  #: ``NNNN_words``
    sql: str


@functools.cache
def migrations() -> tuple[Migration, ...]:
    """Every migration this plugin knows, oldest first."""
    folder = resources.files("taskito_sqlite") / "migrations"
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name
    )
    return tuple(
        Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text("utf-8"))
        for entry in files
    )


def newest() -> int:
    """The version of the last migration."""
    return migrations()[-1].version


def script() -> str:
    """All migrations as one script, for people who apply them by hand."""
    parts = [f"BEGIN IMMEDIATE;\n{_VERSION_TABLE.strip()};\n"]
    now = "CAST(strftime('%s', 'now') AS INTEGER) * 1000"
    for migration in migrations():
        parts.append(f"-- {migration.name}\n{migration.sql.strip()}\n")
        parts.append(
            "INSERT INTO taskito_schema (version, name, applied_at)"
            f" VALUES ({migration.version}, '{migration.name}', {now});\n"
        )
    parts.append("COMMIT;\n")
    return "\n".join(parts)


def applied_version(connection: sqlite3.Connection) -> int:
    """The last migration applied, 0 before the first."""
    try:
        [found] = connection.execute("SELECT max(version) FROM taskito_schema").fetchone()
    except sqlite3.OperationalError as exc:
        if "no such table" in str(exc):
            return 0
        raise
    return int(found or 0)


def origin(connection: sqlite3.Connection) -> object:
    """When the first migration was applied: tells a database from one that was made anew in its place."""
    return connection.execute("SELECT applied_at FROM taskito_schema ORDER BY version LIMIT 1").fetchone()


def pending(found: int) -> list[Migration]:
    """What is to be applied to a schema of version ``found``; ConfigError if it is from the future."""
    if found > newest():
        raise ConfigError(
            f"the schema has version {found}, this taskito-sqlite knows {newest()}: upgrade taskito-sqlite"
        )
    return [migration for migration in migrations() if migration.version > found]


def migrate(connection: sqlite3.Connection, now: int) -> list[str]:
    """Apply what is missing, inside the caller's write transaction; the names, oldest first."""
    missing = pending(applied_version(connection))
    if missing:
        connection.execute(_VERSION_TABLE)
    for migration in missing:
        for statement in _statements(migration.sql):
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as exc:
                if "already exists" not in str(exc):
                    raise
                raise StorageError(
                    f"cannot apply migration {migration.name}: {exc}, and not by taskito; use another file"
                ) from exc
        connection.execute(
            "INSERT INTO taskito_schema (version, name, applied_at) VALUES (?, ?, ?)",
            (migration.version, migration.name, now),
        )
    return [migration.name for migration in missing]


def _statements(script: str) -> list[str]:
    """The single statements of a script: executescript would commit the transaction we are in."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
