"""Two PostgreSQL servers of our own, of which one repeats what the other does, and which change places."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tools import postgres_binaries
from tools.postgres_binaries import NoPostgres
from tools.postgres_engines import LocalEngine, StandbyEngine
from tools.private_postgres import Server


class Pair:
    """``primary`` takes writes, ``standby`` does not. ``switch_over`` makes each the other."""

    def __init__(self, first: LocalEngine, second: LocalEngine) -> None:
        self._first, self._second = first, second
        self.primary, self.standby = Server(first), Server(second)

    def is_in_step(self) -> bool:
        """True if the standby has all that the primary has committed by now."""
        [(written,)] = self.primary.execute("SELECT pg_current_wal_lsn()::text")
        return self.standby.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (written,)) == [(True,)]

    def switch_over(self) -> None:
        """As an administrator does it: nothing that was committed is lost."""
        old, new = self.primary, self.standby
        old.stop()  # having sent all that it wrote
        new.execute("SELECT pg_promote()")
        self._first.follow(new.url())
        old.start()
        self._first, self._second = self._second, self._first
        self.primary, self.standby = new, old


@contextmanager
def postgres_pair(*, standby_settings: Sequence[str] = ()) -> Iterator[Pair]:
    """Both running, removed at the end of the block. Raises NoPostgres without ``pg_basebackup``."""
    binaries = postgres_binaries.find()
    if not os.access(binaries / "pg_basebackup", os.X_OK):
        raise NoPostgres(f"{binaries} has no pg_basebackup")
    first = LocalEngine(binaries, standby_settings)
    try:
        second = StandbyEngine(binaries, first.base_url, standby_settings)
        try:
            yield Pair(first, second)
        finally:
            second.close()
    finally:
        first.close()
