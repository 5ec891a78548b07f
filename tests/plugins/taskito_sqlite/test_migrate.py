"""The schema: what it is made of, and what it must not touch."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from taskito_core import StorageError, columns
from taskito_sqlite.storage import SqliteStorage


def test_a_foreign_table_of_the_same_name_is_left_alone(sqlite_path: Path, storage: SqliteStorage) -> None:
    with sqlite3.connect(sqlite_path) as theirs:
        theirs.execute("CREATE TABLE workers (name TEXT)")
    theirs.close()

    with pytest.raises(StorageError, match="already exists"):
        storage.migrate()

    assert storage.info().schema_version == 0


#: What this store alone needs, beside the columns of ``taskito_core.columns``.
OWN_OF_JOBS = {"seq", "followed", "awaited"}
OWN_OF_LETTERS = {"job_id", "reason", "traceback", "failed_at"}


def _columns(storage: SqliteStorage, table: str) -> dict[str, tuple[bool, object]]:
    """Each column of a table: whether it may be NULL, and its default."""
    storage.migrate()
    with closing(sqlite3.connect(storage.path)) as connection:
        rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return {name: (not not_null, default) for _, name, _, not_null, default, _ in rows}


def test_a_job_has_the_columns_of_the_core_and_three_of_our_own(storage: SqliteStorage) -> None:
    found = _columns(storage, "jobs")

    for column in columns.JOBS:
        nullable, default = found.pop(column.name)
        assert nullable == column.nullable, column.name
        wanted = repr(column.default) if isinstance(column.default, str) else column.default
        assert default == (None if wanted is None else str(wanted)), column.name
    assert set(found) == OWN_OF_JOBS


def test_a_dead_letter_has_every_column_that_is_copied(storage: SqliteStorage) -> None:
    assert set(_columns(storage, "dead_letter")) == OWN_OF_LETTERS | set(columns.COPIED)
