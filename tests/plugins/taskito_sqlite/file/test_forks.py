"""Forks: nothing of a connection crosses, and the write-ahead log stays under a process that still writes."""

from __future__ import annotations

import sqlite3

from taskito_sqlite.storage import SqliteStorage
from tests.plugins.taskito_sqlite.conftest import Open, Spawn


def test_no_connection_is_open_while_a_process_forks(storage: SqliteStorage) -> None:
    storage.migrate()
    database = storage._database
    watching = database.watch()
    database.version(watching)
    assert any(handle.connection for handle in database._idle)

    database.before_fork()
    open_ones = [handle for handle in (*database._idle, watching) if handle.connection]
    database.after_fork_in_parent()

    assert open_ones == []
    assert storage.counts().by_queue == {}
    _, reopened = database.version(watching)
    assert reopened
    database.unwatch(watching)


def test_the_log_survives_the_parents_close_under_the_childs_commits(
    spawn: Spawn, open_storage: Open
) -> None:
    storage = open_storage()
    storage.migrate()

    process = spawn("commit_in_child_while_the_parent_closes", storage.path)
    assert process.wait(timeout=60) == 0

    assert storage.counts().by_queue["default"].pending == 1 + 50
    with sqlite3.connect(storage.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_database_in_use_by_another_thread_during_the_fork_is_refused_in_the_child(
    spawn: Spawn, storage: SqliteStorage
) -> None:
    storage.migrate()

    assert spawn("fork_in_the_middle_of_a_transaction", storage.path).wait(timeout=60) == 0


def test_grandchildren_open_the_database_like_anybody(spawn: Spawn, storage: SqliteStorage) -> None:
    storage.migrate()

    assert spawn("enqueue_in_grandchild", storage.path).wait(timeout=60) == 0

    assert storage.counts().by_queue["default"].pending == 2
