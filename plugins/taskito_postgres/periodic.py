"""Periodic tasks: which app declares them, and which of many workers fires a slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from taskito_core import NewJob, PeriodicEntry, PeriodicState, columns
from taskito_postgres.arrays import Texts
from taskito_postgres.batch import Batch
from taskito_postgres.gates import GatesMixin
from taskito_postgres.session import Session
from taskito_postgres.sql import periodic as sql

_FIELDS = tuple(field.name for field in fields(PeriodicEntry))
_entry_of = columns.reader(PeriodicEntry, tags=columns.texts_in)


class PeriodicMixin(GatesMixin):
    """``register_periodic`` to ``enable_periodic`` of the contract."""

    def register_periodic(self, app: str, entries: Sequence[tuple[PeriodicEntry, int]]) -> list[str]:
        # By name, so that two workers that register at once do not wait for each other.
        declared = [
            self._declaration(app, entry, next_run)
            for entry, next_run in sorted(entries, key=lambda pair: pair[0].name)
        ]
        forget = {"app": app, "names": Texts(entry.name for entry, _ in entries), "shift": self.clock_shift}

        def work(session: Session) -> list[str]:
            with session.round_trip() as trip:
                answers = [
                    (entry["name"], trip.run(self._statements[sql.DECLARE], entry)) for entry in declared
                ]
                trip.run(self._statements[sql.FORGET], forget)
            return [name for name, answer in answers if answer.fetchone() is None]

        return self._connections.on_pool("register periodic tasks", work)

    def due_periodic(self, app: str) -> list[PeriodicState]:
        parameters = {"app": app, "shift": self.clock_shift}
        return self._states("look for due periodic tasks", sql.DUE, parameters)

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        parameters = {"name": state.entry.name, "expected": state.next_run, "next_run": next_run}
        parameters["fired"] = state.fired

        def work(session: Session) -> bool:
            run = session.runner(self._statements)
            batch = Batch(run, self.config.schema, self.clock_shift)
            with session.transaction():
                if not run(sql.FIRE, parameters):
                    return False
                batch.store(jobs)
            self._cascade_after_enqueue(session, batch.cascade, {job.queue for job in jobs})
            return True

        return self._connections.on_pool(f"fire periodic task {state.entry.name}", work)

    def periodic(self) -> list[PeriodicState]:
        return self._states("list periodic tasks", sql.PERIODIC, {})

    def enable_periodic(self, name: str, enabled: bool, next_run: int | None) -> bool:
        parameters = {"name": name, "enabled": enabled, "next_run": next_run}
        return bool(self._written(f"pause or resume periodic task {name}", sql.ENABLE, parameters))

    def _states(self, doing: str, statement: str, parameters: dict[str, Any]) -> list[PeriodicState]:
        size = len(_FIELDS)
        return [
            PeriodicState(_entry_of(row[:size]), *row[size:])
            for row in self._searched(doing, statement, parameters)
        ]

    def _declaration(self, app: str, entry: PeriodicEntry, next_run: int) -> dict[str, Any]:
        declared = {name: getattr(entry, name) for name in _FIELDS}
        declared.update(
            app=app, tags=columns.list_text(entry.tags), next_run=next_run, shift=self.clock_shift
        )
        return declared
