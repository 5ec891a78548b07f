"""Two PostgreSQL servers of our own, of which one repeats what the other does, and which change places."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tools import postgres_binaries
from tools.postgres_binaries import NoPostgres
from tools.postgres_engines import LocalEngine, StandbyEngine
from tools.private_postgres import Server


class Pair:
    """``primary`` takes writes, ``standby`` does not. ``switch_over`` makes each the other."""

    def __init__(self, binaries: Path, settings: Sequence[str]) -> None:
        self._first = LocalEngine(binaries, settings)
        try:
            self._second: LocalEngine = StandbyEngine(binaries, self._first.base_url, settings)
        except BaseException:
            self._first.close()
            raise
        self.primary, self.standby = Server(self._first), Server(self._second)

    def is_in_step(self) -> bool:
        """True if the standby has all that the primary has committed by now."""
        [(written,)] = self.primary.execute("SELECT pg_current_wal_lsn()::text")
        return self.standby.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (written,)) == [(True,)]

    def demand_standby(self, demanded: bool = True) -> None:
        """Have commits wait until the standby has them, for as long as it is away; or not any more."""
        names = "*" if demanded else ""
        # On a standby that is away this would wait, too.
        with psycopg.connect(self.primary.url(), autocommit=True) as database:
            database.execute("SET synchronous_commit = local")
            database.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
            database.execute("SELECT pg_reload_conf()")

    def is_demanded(self) -> bool:
        """True if the standby is there, and commits wait for it."""
        return self.primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)]

    def fail_over(self) -> None:
        """The primary crashes and the standby takes its place: what it did not have is lost."""
        old, new = self.primary, self.standby
        old.stop("immediate")
        new.execute("SELECT pg_promote()")
        self._first, self._second = self._second, self._first
        self.primary, self.standby = new, old

    def renew_standby(self) -> None:
        """After ``fail_over``: the old primary becomes a standby of the new one."""
        self._second.copy(self._first.base_url)
        self.standby.start()

    def close(self) -> None:
        self._second.close()
        self._first.close()

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
    pair = Pair(binaries, standby_settings)
    try:
        yield pair
    finally:
        pair.close()
