"""The periodic tasks of one app: declared to the store, and fired when they are due.

On the store thread only. Every worker does this for its app; the store's compare and swap lets each slot
fire once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cached_property

from taskito.cron import schedule
from taskito.cron.slots import FiredSlots
from taskito_core.job import NewJob
from taskito_core.storage import Storage
from taskito_core.storage_worker import PeriodicEntry, PeriodicState

log = logging.getLogger("taskito.worker")

#: Seconds between two declarations: entries that no worker declares for ten minutes are forgotten.
DECLARE_INTERVAL = 60.0


class Schedules:
    """What one app wants to be run when."""

    def __init__(self, app: str, entries: Sequence[PeriodicEntry], lanes: frozenset[str]) -> None:
        self._app = app
        self._entries = {entry.name: entry for entry in entries}
        self._lanes = lanes  #: tasks whose jobs wait in a lane of their own
        self._declared_at: int | None = None  #: by the store's clock
        #: When ``fire`` was called last, by the store's clock, and by ours, which nobody sets.
        self._fired_at: tuple[int, float] | None = None
        self._refused: set[str] = set()

    @cached_property
    def _schedules(self) -> dict[str, schedule.Schedule]:
        return {name: schedule.Schedule(entry.cron, entry.timezone) for name, entry in self._entries.items()}

    def fire(self, storage: Storage) -> float:
        """Enqueue every slot that is due; seconds until the next one, or the next declaration."""
        now = storage.now()
        # It may also have gone back while this worker did not run.
        went_back = self._fired_at is None or now < self._fired_at[0]
        if self._declared_at is None or went_back or now - self._declared_at >= DECLARE_INTERVAL * 1000:
            self._declare(storage, now)
        if not self._entries:
            return DECLARE_INTERVAL
        if went_back:
            self._return(storage, now)
        self._fired_at = (now, time.monotonic())
        for state in storage.due_periodic(self._app):
            self._fire_one(storage, state, now)
        return self._pause(storage, now)

    def _declare(self, storage: Storage, now: int) -> None:
        declared = [(entry, self._schedules[name].next_after(now)) for name, entry in self._entries.items()]
        refused = set(storage.register_periodic(self._app, declared))
        for name in sorted(refused - self._refused):
            log.error(
                "periodic task %r belongs to another app in this store: it is not run for this one", name
            )
        self._refused = refused
        self._declared_at = now

    def _own(self, state: PeriodicState) -> PeriodicEntry | None:
        """What this app declares of it; None: it is another app's, or its times are another version's.

        Read by our expression, a slot of another one is none, and would be lost. Its own workers fire it.
        """
        entry = self._entries.get(state.entry.name)
        if entry is None:
            return None
        theirs = (state.entry.app, state.entry.cron, state.entry.timezone)
        return entry if theirs == (self._app, entry.cron, entry.timezone) else None

    def _fire_one(self, storage: Storage, state: PeriodicState, now: int) -> None:
        if (entry := self._own(state)) is None:
            return
        # The store may have found it due by a clock that has gone on since we read it.
        now = max(now, state.next_run)
        times, fired = self._schedules[entry.name], FiredSlots.from_text(state.fired)
        due = schedule.due(times, state.next_run, now, entry.catch_up)
        slots = [slot for slot in due.slots if slot not in fired]
        noted = state._replace(fired=fired.add(times, slots).to_text())
        jobs = [self._job(entry, slot) for slot in slots]
        if storage.fire_periodic(noted, jobs, fired.next_after(times, due.next_run - 1)):
            log.debug("periodic task %s: %d jobs", entry.name, len(jobs))

    def _return(self, storage: Storage, now: int) -> None:
        """The clock was set back: what comes next is the first slot since then that has not fired."""
        since = now
        if self._fired_at is not None:
            since -= round((time.monotonic() - self._fired_at[1]) * 1000) + 1
        for state in storage.periodic():
            if (entry := self._own(state)) is not None and state.enabled:
                fired = FiredSlots.from_text(state.fired)
                slot = fired.next_after(self._schedules[entry.name], since)
                if slot < state.next_run and storage.fire_periodic(state, [], slot):
                    log.info("periodic task %s: the clock was set back, and its slots go on", entry.name)

    def _job(self, entry: PeriodicEntry, slot: int) -> NewJob:
        return NewJob(
            id=schedule.slot_id(self._app, entry.name, slot),
            task_name=entry.task_name,
            payload=entry.payload,
            queue=entry.queue,
            priority=entry.priority,
            scheduled_at=slot,
            max_retries=entry.max_retries,
            timeout=entry.timeout,
            result_ttl=entry.result_ttl,
            metadata=entry.metadata,
            tags=entry.tags,
            lane=entry.task_name if entry.task_name in self._lanes else "",
        )

    def _pause(self, storage: Storage, now: int) -> float:
        pauses = [DECLARE_INTERVAL]
        for state in storage.periodic():
            if (entry := self._own(state)) is not None:
                # Resuming one is not announced, so the next slot of a paused one counts too.
                moment = state.next_run if state.enabled else self._schedules[entry.name].next_after(now)
                pauses.append(max(0.0, (moment - now) / 1000))
        return min(pauses)
