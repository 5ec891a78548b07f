"""Commits of other connections: noticing them, and notifying others of one in a caller's own transaction.

SQLite notifies no process of a commit. Its change counter costs microseconds to read, so that is polled, and
the jobs are read only when it has changed.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from taskito_core import StorageError
from taskito_sqlite.connection import Database
from taskito_sqlite.file.identity import FileGone
from taskito_sqlite.sql import wakeups as sql

#: (seconds since the last change, seconds between polls of the change counter).
POLL_INTERVALS = ((1.0, 0.005), (10.0, 0.05), (float("inf"), 0.25))
#: Seconds for which a commit is expected.
PATIENCE = 30.0


def poll_interval(quiet: float) -> float:
    """Seconds until the next poll, so many seconds after the last change."""
    return next(interval for since, interval in POLL_INTERVALS if quiet < since)


class ChangeCounter:
    """The database's change counter, read on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handle = database.watch()
        self._version = 0

    def changed(self) -> bool:
        """True if another connection has committed since the last call.

        Also at the first call, and whenever the connection was opened anew: what was committed before is
        not known then. A database that cannot be read has not changed; one whose file is gone has, once.
        """
        try:
            version, fresh = self._database.version(self._handle)
        except FileGone:
            return True
        except StorageError:
            return False
        before, self._version = self._version, version
        return fresh or version != before

    def close(self) -> None:
        """Close the connection."""
        self._database.unwatch(self._handle)


class ExpectedCommit(NamedTuple):
    """A change made in a caller's transaction, by which its commit can be seen."""

    job_id: str
    ended: bool  #: True: the job will have ended then; False: it will be stored
    queues: frozenset[str]  #: whose workers are notified then


class CommitWatch:
    """Calls ``notify(queues)`` once an expected commit can be seen.

    The thread lives only while a commit is expected. If the process ends first, or the commit comes too late,
    those who wait find out by their own checks (see ``wakeups``).
    """

    def __init__(self, database: Database, notify: Callable[[set[str]], None]) -> None:
        self._database = database
        self._notify = notify
        self._changed = threading.Condition()
        self._until: dict[ExpectedCommit, float] = {}
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None

    def expect(self, expected: ExpectedCommit) -> None:
        """Notify when this can be seen."""
        with self._changed:
            self._asked_at = time.monotonic()
            self._until[expected] = self._asked_at + PATIENCE
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="taskito-commit-watch", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Check once more, so that a caller may commit and close at once; then expect nothing."""
        self._check()
        with self._changed:
            self._until.clear()
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(timeout=5.0)

    def _run(self) -> None:
        counter = ChangeCounter(self._database)
        try:
            checked = True
            while self._wait():
                if counter.changed() or not checked:
                    checked = self._check()
        finally:
            counter.close()

    def _wait(self) -> bool:
        """Until the next poll, sooner at first; False if no commit is expected any more."""
        with self._changed:
            now = time.monotonic()
            self._until = {expected: until for expected, until in self._until.items() if until > now}
            if not self._until:
                self._thread = None
                return False
            self._changed.wait(poll_interval(now - self._asked_at))
        return True

    def _check(self) -> bool:
        """Notify for every commit that can be seen; False if the database could not be read."""
        with self._changed:
            expected = list(self._until)
        if not expected:
            return True
        try:
            ended = self._database.read(lambda connection: _ended(connection, expected))
            seen = [one for one in expected if ended.get(one.job_id) in (True, one.ended)]
            if seen:
                self._notify({queue for one in seen for queue in one.queues})
        except StorageError:
            return False
        with self._changed:
            for one in seen:
                self._until.pop(one, None)
        return True


def _ended(connection: sqlite3.Connection, expected: list[ExpectedCommit]) -> dict[str, bool]:
    """Which of the jobs are stored, and whether they have ended."""
    ids = {"ids": json.dumps([one.job_id for one in expected])}
    return {job_id: bool(ended) for job_id, ended in connection.execute(sql.ENDED, ids)}
