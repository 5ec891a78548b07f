"""The periodic tasks of the memory store."""

from __future__ import annotations

from collections.abc import Sequence

from taskito_core import NewJob, PeriodicEntry, PeriodicState
from taskito_kv.access import MemoryAccess
from taskito_kv.inserting import insert

_TEN_MINUTES = 10 * 60 * 1000


class MemorySchedules(MemoryAccess):
    def register_periodic(self, app: str, entries: Sequence[tuple[PeriodicEntry, int]]) -> list[str]:
        with self._ready() as store:
            now = self.now()
            refused = []
            for entry, next_run in entries:
                known = store.periodic.get(entry.name)
                if known is not None and known.entry.app != app and _is_fresh(known, now):
                    refused.append(entry.name)
                else:
                    store.periodic[entry.name] = _declared(known, entry, next_run, now)
            named = {entry.name for entry, _ in entries}
            for state in list(store.periodic.values()):
                if state.entry.app == app and state.entry.name not in named and not _is_fresh(state, now):
                    del store.periodic[state.entry.name]
            return refused

    def due_periodic(self, app: str) -> list[PeriodicState]:
        with self._ready() as store:
            now = self.now()
            due = [
                state
                for state in store.periodic.values()
                if state.entry.app == app and state.enabled and state.next_run <= now
            ]
            return sorted(due, key=lambda state: (state.next_run, state.entry.name))

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        with self._changing() as store:
            name = state.entry.name
            current = store.periodic.get(name)
            if current is None or not current.enabled or current.next_run != state.next_run:
                return False
            insert(store, jobs, self.now())
            last_run = state.next_run if next_run > state.next_run else current.last_run
            store.periodic[name] = current._replace(last_run=last_run, next_run=next_run, fired=state.fired)
            return True

    def periodic(self) -> list[PeriodicState]:
        with self._ready() as store:
            return sorted(store.periodic.values(), key=lambda state: state.entry.name)

    def enable_periodic(self, name: str, enabled: bool, next_run: int | None) -> bool:
        with self._ready() as store:
            state = store.periodic.get(name)
            if state is None:
                return False
            moved = state.next_run if next_run is None else next_run
            store.periodic[name] = state._replace(enabled=enabled, next_run=moved)
            return True


def _is_fresh(state: PeriodicState, now: int) -> bool:
    return now - state.registered_at < _TEN_MINUTES


def _declared(known: PeriodicState | None, entry: PeriodicEntry, next_run: int, now: int) -> PeriodicState:
    if known is None:
        return PeriodicState(entry, next_run, None, True, now)
    same_times = (known.entry.cron, known.entry.timezone) == (entry.cron, entry.timezone)
    if not same_times:
        known = known._replace(next_run=next_run, fired="")
    return known._replace(entry=entry, registered_at=now)
