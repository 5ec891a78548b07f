"""The schema: what it is made of, and what it must not touch."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from taskito_core import Retention, StorageError, columns
from taskito_sqlite import migrate
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


def test_a_store_that_held_jobs_before_there_was_a_retention_keeps_them_for_ever(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.migrations()
    monkeypatch.setattr(migrate, "migrations", lambda: known[:3])
    storage.migrate()
    with closing(sqlite3.connect(storage.path)) as connection, connection:
        connection.execute(
            "INSERT INTO jobs (id, task_name, queue, status, priority, scheduled_at, created_at,"
            " completed_at, payload) VALUES ('old', 't', 'q', 'complete', 0, 1, 1, 1, x'00')"
        )
    monkeypatch.undo()
    storage.close()

    assert storage.migrate() == [one.name for one in known[3:]]

    assert storage.retention() == Retention(None, None, None)
    assert storage.prune(9).announce == Retention(None, None, None)
    assert [job.id for job in storage.get(["old"])] == ["old"]
