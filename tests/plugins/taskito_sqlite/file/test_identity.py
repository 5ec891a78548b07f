"""Files that are not at their path any more: what is open of them, and what they leave behind."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito_core import StorageUnavailable
from taskito_sqlite.commit_watch import ChangeCounter
from taskito_sqlite.file import identity
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import make_job
from tests.plugins.taskito_sqlite.conftest import Open, Spawn


def _enqueue(storage: SqliteStorage) -> str | None:
    """The id of a job, if it is stored."""
    try:
        return storage.enqueue([make_job()])[0].id
    except StorageUnavailable:
        return None


def test_a_database_that_went_away_is_not_made_anew_at_once(
    sqlite_path: Path, storage: SqliteStorage, wait_until: WaitUntil
) -> None:
    storage.enqueue([make_job()])
    sqlite_path.unlink()
    since = time.monotonic()

    with pytest.raises(StorageUnavailable, match="deleted, moved away or replaced"):
        storage.enqueue([make_job()])
    with pytest.raises(StorageUnavailable, match="nothing is in its place"):
        storage.counts()
    assert not sqlite_path.exists()

    wait_until(lambda: _enqueue(storage) is not None)
    assert time.monotonic() - since >= 0.9
    assert storage.counts().by_queue["default"].pending == 1


def test_a_new_process_can_use_the_path_while_an_idle_one_has_the_old_file_open(
    sqlite_path: Path, open_storage: Open, spawn: Spawn, wait_until: WaitUntil
) -> None:
    first = open_storage()
    first.enqueue([make_job()])
    spawn("stay_idle", sqlite_path)
    wait_until(lambda: sqlite_path.with_name(f"{sqlite_path.name}-idle").exists())
    first.close()
    sqlite_path.unlink()

    anew = open_storage()
    jobs = [make_job() for _ in range(50)]
    for job in jobs:
        anew.enqueue([job])

    assert len(open_storage().get([job.id for job in jobs])) == 50


def test_the_last_close_of_a_file_that_is_gone_leaves_the_new_log_alone(
    sqlite_path: Path, open_storage: Open, wait_until: WaitUntil
) -> None:
    old = open_storage()
    old.enqueue([make_job()])
    sqlite_path.unlink()
    anew = open_storage()
    wait_until(lambda: _enqueue(anew) is not None)

    old.close()

    assert sqlite_path.with_name(f"{sqlite_path.name}-wal").exists()
    assert open_storage().counts().by_queue["default"].pending == 1


def test_another_storage_of_this_process_does_not_make_it_anew_at_once_either(
    sqlite_path: Path, open_storage: Open, wait_until: WaitUntil
) -> None:
    open_storage().enqueue([make_job()])
    sqlite_path.unlink()

    with pytest.raises(StorageUnavailable, match="nothing is in its place"):
        open_storage().enqueue([make_job()])
    assert not sqlite_path.exists()

    wait_until(lambda: _enqueue(open_storage()))


def test_the_log_of_a_moved_database_is_kept_and_completes_it(
    sqlite_path: Path, open_storage: Open, tmp_path: Path
) -> None:
    storage = open_storage()
    job = make_job()
    storage.enqueue([job])
    away = tmp_path / "away.db"
    sqlite_path.rename(away)

    assert _enqueue(storage) is None
    os.rename(f"{sqlite_path}{identity.LOST}", f"{away}-wal")

    assert [found.id for found in open_storage(db_path=str(away)).get([job.id])] == [job.id]


def test_a_connection_of_the_callers_on_a_file_that_is_gone_is_refused(
    sqlite_path: Path, storage: SqliteStorage, open_storage: Open, wait_until: WaitUntil
) -> None:
    storage.enqueue([make_job()])
    with closing(sqlite3.connect(sqlite_path)) as theirs:
        theirs.execute("SELECT count(*) FROM jobs").fetchone()
        sqlite_path.unlink()

        with pytest.raises(StorageUnavailable):
            storage.enqueue([make_job()], theirs)
        wait_until(lambda: _enqueue(open_storage()))
        with pytest.raises(StorageUnavailable, match="open a new connection"):
            storage.enqueue([make_job()], theirs)
        theirs.rollback()

    with closing(sqlite3.connect(sqlite_path)) as theirs:
        [receipt] = storage.enqueue([make_job()], theirs)
        theirs.commit()
    assert len(storage.get([receipt.id])) == 1


def test_who_waits_for_changes_is_told_once_that_the_file_is_gone(
    sqlite_path: Path, storage: SqliteStorage, wait_until: WaitUntil
) -> None:
    storage.migrate()
    counter = ChangeCounter(storage._database)
    counter.changed()
    sqlite_path.unlink()

    wait_until(counter.changed)
    assert not counter.changed()
    counter.close()


def test_it_is_logged_once_however_many_connections_there_were(
    sqlite_path: Path, open_storage: Open, caplog: pytest.LogCaptureFixture
) -> None:
    storages = [open_storage() for _ in range(3)]
    for storage in storages:
        storage.enqueue([make_job()])
    sqlite_path.unlink()

    assert [_enqueue(storage) for storage in storages] == [None] * 3

    said = [record.getMessage() for record in caplog.records if record.name == "taskito.sqlite"]
    assert [text for text in said if "made a new one" not in text] == [
        f"{sqlite_path} was deleted, moved away or replaced while it was open: nothing more goes there"
    ]
