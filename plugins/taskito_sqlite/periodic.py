"""Periodic tasks: which entries the apps declare, and which worker fires a slot."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from taskito_core import NewJob, PeriodicEntry, PeriodicState, columns
from taskito_sqlite.enqueue import insert
from taskito_sqlite.sql import periodic as sql
from taskito_sqlite.wakeups import WakeupsMixin

#: Milliseconds without a declaration after which an entry is forgotten, or may be taken over.
FORGOTTEN_AFTER = 10 * 60 * 1000

_NAMES = tuple(field.name for field in fields(PeriodicEntry))
_entry_of = columns.reader(PeriodicEntry, tags=columns.texts_in)


class PeriodicMixin(WakeupsMixin):
    """``register_periodic`` to ``enable_periodic`` of the contract."""

    def register_periodic(self, app: str, entries: Sequence[tuple[PeriodicEntry, int]]) -> list[str]:
        """As ``Storage.register_periodic``."""

        def work(connection: sqlite3.Connection) -> list[str]:
            now = self.now()
            common = {"app": app, "now": now, "forgotten": now - FORGOTTEN_AFTER}
            refused = []
            for entry, next_run in entries:
                values = {**_values(entry), **common, "next_run": next_run}
                if connection.execute(sql.DECLARED_BY_OTHERS, values).fetchone() is None:
                    connection.execute(sql.DECLARE, values)
                else:
                    refused.append(entry.name)
            names = json.dumps([entry.name for entry, _ in entries])
            connection.execute(sql.FORGET, {**common, "names": names})
            return refused

        return self._write(work)

    def due_periodic(self, app: str) -> list[PeriodicState]:
        """As ``Storage.due_periodic``."""
        values = {"app": app, "now": self.now()}
        return self._read(lambda connection: [_state(row) for row in connection.execute(sql.DUE, values)])

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        """As ``Storage.fire_periodic``."""
        values = {"name": state.entry.name, "expected": state.next_run, "next_run": next_run}
        values["fired"] = state.fired

        def work(connection: sqlite3.Connection) -> tuple[bool, set[str]]:
            if not connection.execute(sql.FIRE, values).rowcount:
                return False, set()
            stored = insert(connection, jobs, self.now())
            return True, self._to_notify(connection, stored.queues)

        return self._write_and_notify(work)

    def periodic(self) -> list[PeriodicState]:
        """As ``Storage.periodic``."""
        return self._read(lambda connection: [_state(row) for row in connection.execute(sql.PERIODIC)])

    def enable_periodic(self, name: str, enabled: bool, next_run: int | None) -> bool:
        """As ``Storage.enable_periodic``."""
        values = {"name": name, "enabled": enabled, "next_run": next_run}
        return self._write(lambda connection: connection.execute(sql.ENABLE, values).rowcount == 1)


def _values(entry: PeriodicEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _NAMES} | {"tags": columns.list_text(entry.tags)}


def _state(row: tuple[Any, ...]) -> PeriodicState:
    *entry, next_run, last_run, enabled, registered_at, fired = row
    return PeriodicState(_entry_of(entry), next_run, last_run, bool(enabled), registered_at, fired)
