"""What the parts of the storage share: the file, its migrations, and whom to ring after a commit."""

from __future__ import annotations

import functools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from taskito_core import ConfigError, StorageConfig
from taskito_sqlite import checkpoint, doorbell, external, location, migrate, settle, sql
from taskito_sqlite.connection import Database
from taskito_sqlite.lookout import Expected, LookOut

T = TypeVar("T")

POOL_SIZE = 8


class Base:
    """Constructing it does no I/O."""

    def __init__(self, config: StorageConfig) -> None:
        location.check(config)
        self.path = location.database_path(config)
        self.clock_shift = 0
        self._auto_migrate = config.auto_migrate
        self._database = Database(
            self.path, pool_size=config.pool_size or POOL_SIZE, power_safe=config.durability == "power"
        )
        self._checkpoints = checkpoint.Policy(self._database)
        self._waiting = doorbell.Waiters(self._database)
        self._lookout = LookOut(self._database, self._ring_for)
        self._opening = threading.Lock()
        self._current = False
        #: Ears whose worker has yet to register: id -> (address, queues as JSON).
        self._early_ears: dict[str, tuple[str | None, str]] = {}

    def migrate(self) -> list[str]:
        """As ``Storage.migrate``."""
        return self._database.write(lambda connection: migrate.apply(connection, self.now()))

    def now(self) -> int:
        """As ``Storage.now``: the machine's clock, because only this machine uses the file."""
        return time.time_ns() // 1_000_000 + self.clock_shift

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._ready()
        return self._database.read(work)

    def _write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        self._ready()
        return self._database.write(work, durable=durable)

    def _ready(self) -> None:
        """Before the first use: bring the schema up to date, or refuse one that is not."""
        if self._current:
            return
        with self._opening:
            todo = migrate.pending(self._version())
            if todo and not self._auto_migrate:
                what = f"lacks {', '.join(one.name for one in todo)}"
                if not self._database.exists():
                    what = "does not exist yet"
                raise ConfigError(f"the database {self.path} {what}: run 'taskito migrate'")
            if todo:
                self.migrate()
            self._current = True

    def _version(self) -> int:
        return self._database.read(migrate.version) if self._database.exists() else 0

    def _listeners(
        self, connection: sqlite3.Connection, queues: Iterable[str], but: str | None = None
    ) -> set[str]:
        """The doorbells of the workers that wait for jobs on these queues."""
        bells: set[str] = set()
        last_seen = 0
        for worker_id, waiting, address, listens, seen in connection.execute(sql.LISTENERS):
            last_seen = max(last_seen, seen)
            if waiting and address and worker_id != but and not _words(listens).isdisjoint(queues):
                bells.add(address)
        self._checkpoints.worker_seen(last_seen, self.now())
        return bells

    def _bells(self, connection: sqlite3.Connection, queues: set[str]) -> set[str]:
        """Whom to ring after the commit: workers that wait for these queues, and waiters of ended jobs."""
        waiters = set(settle.tell_waiters(connection))
        return waiters | self._listeners(connection, queues) if queues else waiters

    def _write_and_ring(self, work: Callable[[sqlite3.Connection], tuple[T, set[str]]]) -> T:
        """``_write`` for work that also says whom to ring after its commit."""
        answer, bells = self._write(work)
        self._ring(bells)
        return answer

    def _within(
        self, given: object, work: Callable[[sqlite3.Connection], T], expect: Callable[[T], Expected | None]
    ) -> T:
        """Run ``work`` in the caller's transaction, and ring once what it makes one expect is committed."""
        self._ready()
        answer, committed = external.run(given, self._database, work)
        expected = expect(answer)
        if expected is not None:
            if committed:
                self._ring_for(set(expected.queues))
            else:
                self._lookout.expect(expected)
        return answer

    def _ring_for(self, queues: set[str]) -> None:
        """Ring, after a commit that was not ours, whoever waits for these queues or for a job that ended.

        Reading is enough to find the workers: one whose mark cannot be seen yet claims after that commit.
        """

        def look(connection: sqlite3.Connection) -> tuple[set[str], bool]:
            awaited = connection.execute(sql.AWAITED).fetchone() is not None
            return self._listeners(connection, queues), awaited

        bells, awaited = self._read(look)
        if awaited:
            bells |= self._write(settle.tell_waiters, durable=False)
        self._ring(bells)

    def _ring(self, bells: Iterable[str]) -> None:
        if bells:
            doorbell.ring(bells)


@functools.lru_cache(maxsize=256)
def _words(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))
