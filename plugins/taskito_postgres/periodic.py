"""Periodic tasks: who declares them, and who of many fires a slot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from taskito_core import NewJob, PeriodicEntry, PeriodicState
from taskito_postgres import schedules
from taskito_postgres.arrays import Texts
from taskito_postgres.produce import Produce
from taskito_postgres.session import Session


class Periodic(Produce):
    """``register_periodic`` to ``enable_periodic`` of the contract."""

    def register_periodic(self, app: str, entries: Sequence[tuple[PeriodicEntry, int]]) -> list[str]:
        # By name, so that two workers that register at once do not wait for each other.
        declared = [
            self._entry(app, entry, next_run)
            for entry, next_run in sorted(entries, key=lambda pair: pair[0].name)
        ]
        forget = {"app": app, "names": Texts(entry.name for entry, _ in entries), "shift": self.clock_shift}

        def work(session: Session) -> list[str]:
            with session.turn() as turn:
                answers = [
                    (entry["name"], turn.run(self._statements[schedules.DECLARE], entry))
                    for entry in declared
                ]
                turn.run(self._statements[schedules.FORGET], forget)
            return [name for name, answer in answers if answer.fetchone() is None]

        return self._connections.on_pool("register periodic tasks", work)

    def due_periodic(self, app: str) -> list[PeriodicState]:
        return self._states(
            "look for due periodic tasks", schedules.DUE, {"app": app, "shift": self.clock_shift}
        )

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        parameters = {"name": state.entry.name, "expected": state.next_run, "next_run": next_run}

        def work(session: Session) -> bool:
            with session.transaction():
                if not session.runner(self._statements)(schedules.FIRE, parameters):
                    return False
                intake = self._intake(session)
                intake.store(jobs)
            self._after_commit(session, intake.rest, {job.queue for job in jobs})
            return True

        return self._connections.on_pool(f"fire periodic task {state.entry.name}", work)

    def periodic(self) -> list[PeriodicState]:
        return self._states("list periodic tasks", schedules.PERIODIC, {})

    def enable_periodic(self, name: str, enabled: bool, next_run: int | None) -> bool:
        parameters = {"name": name, "enabled": enabled, "next_run": next_run}
        statement = self._statements[schedules.ENABLE]
        return bool(
            self._connections.on_pool(
                f"pause or resume periodic task {name}", lambda session: session.rows(statement, parameters)
            )
        )

    def _states(self, doing: str, statement: str, parameters: dict[str, Any]) -> list[PeriodicState]:
        text = self._statements[statement]
        rows = self._connections.on_pool(
            doing, lambda session: session.searched(text, parameters), repeatable=True
        )
        return [_state(row) for row in rows]

    def _entry(self, app: str, entry: PeriodicEntry, next_run: int) -> dict[str, Any]:
        return {
            "name": entry.name,
            "app": app,
            "task_name": entry.task_name,
            "cron": entry.cron,
            "timezone": entry.timezone,
            "catch_up": entry.catch_up,
            "queue": entry.queue,
            "payload": entry.payload,
            "priority": entry.priority,
            "max_retries": entry.max_retries,
            "timeout": entry.timeout,
            "result_ttl": entry.result_ttl,
            "metadata": entry.metadata,
            "tags": json.dumps(entry.tags),
            "next_run": next_run,
            "shift": self.clock_shift,
        }


_FIELDS = (
    *("name", "app", "task_name", "cron", "timezone", "catch_up", "queue", "payload", "priority"),
    *("max_retries", "timeout", "result_ttl", "metadata"),
)


def _state(row: tuple[Any, ...]) -> PeriodicState:
    *entry, tags, next_run, last_run, enabled, registered_at = row
    declared = PeriodicEntry(**dict(zip(_FIELDS, entry, strict=True)), tags=tuple(json.loads(tags)))
    return PeriodicState(declared, next_run, last_run, enabled, registered_at)
