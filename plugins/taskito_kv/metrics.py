"""The metrics contract as plain Python: what happens here is what the contract means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from taskito_core import StorageConfig, StorageError, Tallies, Tally
from taskito_kv.store import milliseconds, store_named, wall_clock

MINUTE = 60_000


class MemoryMetrics:
    """The sink in the store that its config names (``memory://NAME`` and a schema)."""

    def __init__(self, config: StorageConfig) -> None:
        self.clock_shift = 0
        self._store = store_named(urlsplit(config.db_url or "memory://").netloc, config.schema)
        self._forgot_at: int | None = None
        self._pid = os.getpid()

    def record(self, batch: Sequence[Tally]) -> None:
        now = self._now()
        with self._store.changed:
            current = self._store.minutes.setdefault(now - now % MINUTE, Tallies())
            current.merge(batch)
            # Minutes that have not begun: the clock was set back.
            for minute in [one for one in self._store.minutes if one > now]:
                current.merge(self._store.minutes.pop(minute))
            if self._forgot_at is None or now - self._forgot_at >= 3_600_000:
                self._forgot_at = now
                kept = self._store.retention.metrics
                for minute in list(self._store.minutes):
                    if kept is not None and minute < now - milliseconds(kept):
                        del self._store.minutes[minute]

    def read(self, task_name: str | None, since: float) -> list[Tally]:
        first = self._now() - milliseconds(since) - MINUTE
        found = Tallies()
        with self._store.changed:
            for minute, tallies in self._store.minutes.items():
                if minute > first:
                    found.merge(tally for tally in tallies if task_name in (None, tally.task_name))
            return found.take()

    def close(self) -> None:
        """Nothing is held open: the store outlives every object that uses it."""

    def _now(self) -> int:
        if os.getpid() != self._pid:
            raise StorageError(
                f"a sink opened in process {self._pid} was carried into {os.getpid()} by a fork"
            )
        return wall_clock() + self.clock_shift
