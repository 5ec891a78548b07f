"""Rings for what somebody committed in a transaction of their own.

SQLite tells nobody of a commit. So while one is expected, a thread looks at the database's change counter,
which costs microseconds, and at the jobs only when somebody has committed. If the process ends first, or the
commit comes too late for it, whoever waits finds out by the look behind the bell (see doorbell.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from taskito_core import StorageError
from taskito_sqlite.connection import Database
from taskito_sqlite.doorbell import Watch, pause
from taskito_sqlite.look import ends

#: Seconds for which a commit is expected.
PATIENCE = 30.0


class Expected(NamedTuple):
    job_id: str
    ended: bool  #: its end is expected; else that it is stored
    queues: frozenset[str]  #: to ring for then


class LookOut:
    """Expects jobs to show. The thread is there only while it has something to expect."""

    def __init__(self, database: Database, ring_for: Callable[[set[str]], None]) -> None:
        self._database = database
        self._ring_for = ring_for
        self._changed = threading.Condition()
        self._until: dict[Expected, float] = {}
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None

    def expect(self, expected: Expected) -> None:
        """Ring when this can be seen."""
        with self._changed:
            self._asked_at = time.monotonic()
            self._until[expected] = self._asked_at + PATIENCE
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="taskito-lookout", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Look once more, so that who commits and closes at once has rung; then expect nothing."""
        self._look()
        with self._changed:
            self._until.clear()
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(timeout=5.0)

    def _run(self) -> None:
        watch = Watch(self._database)
        try:
            looked = True
            while self._wait():
                if watch.changed() or not looked:
                    looked = self._look()
        finally:
            watch.close()

    def _wait(self) -> bool:
        """A moment, shorter at first; False if there is nothing to expect any more."""
        with self._changed:
            now = time.monotonic()
            self._until = {expected: until for expected, until in self._until.items() if until > now}
            if not self._until:
                self._thread = None
                return False
            self._changed.wait(pause(now - self._asked_at))
        return True

    def _look(self) -> bool:
        """Ring for all that can be seen; False if the database could not be asked."""
        with self._changed:
            expected = list(self._until)
        if not expected:
            return True
        try:
            ended = self._database.read(lambda connection: ends(connection, [one.job_id for one in expected]))
            seen = [one for one in expected if ended.get(one.job_id) in (True, one.ended)]
            if seen:
                self._ring_for({queue for one in seen for queue in one.queues})
        except StorageError:
            return False
        with self._changed:
            for one in seen:
                self._until.pop(one, None)
        return True
