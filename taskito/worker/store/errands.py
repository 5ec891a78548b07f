"""What the store thread does for the desk: each errand is one request, with everything that belongs to it.

Plugins' hooks run here too: the loop must wait neither for them nor for the store.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from taskito.worker.dispatch.inflight import Entry
from taskito.worker.store.admission import Ending, Gatekeeper
from taskito.worker.store.cron import Schedules
from taskito_core.errors import StorageError, StorageUnavailable
from taskito_core.job import Outcome
from taskito_core.plugin_manager import Plugins
from taskito_core.storage import Storage
from taskito_core.storage_worker import Beat, Exchange, Note, Swept, Want, WorkerInfo

log = logging.getLogger("taskito.worker")

#: Jobs removed by one round of pruning.
PRUNE_BATCH = 500
#: Jobs of each kind that one sweep deals with.
SWEEP_BATCH = 1000


class Visit(NamedTuple):
    """The answer of one exchange, and what the gatekeeper makes of it."""

    exchange: Exchange
    strays: frozenset[str] = frozenset()  #: ids of claims that must go to their task's lane
    more: bool = False  #: a limited lane was left with jobs for want of free children, or is open again
    retry_after: float | None = None  #: seconds until a lane that is held up may be asked for again


class Errands:
    """Calls on the storage, and on what stands beside it. Store thread only, but for construction."""

    def __init__(
        self, storage: Storage, plugins: Plugins, gatekeeper: Gatekeeper, schedules: Schedules
    ) -> None:
        self._storage = storage
        self._plugins = plugins
        self._gatekeeper = gatekeeper
        self._schedules = schedules
        self._farewell_said = False

    def register(self, worker: WorkerInfo) -> None:
        self._storage.register(worker)

    def greet(self, worker: WorkerInfo) -> None:
        """Tell plugins that this worker is registered."""
        self._plugins.observe("taskito_worker_started", worker=worker)

    def unregister(self, worker: WorkerInfo) -> None:
        if not self._farewell_said:
            self._farewell_said = True
            self._plugins.observe("taskito_worker_stopping", worker=worker)
        self._storage.unregister(worker.id)

    def beat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        return self._storage.heartbeat(worker_id, running)

    def rescue(self, suspects: Mapping[str, int]) -> list[str]:
        return self._storage.rescue(suspects)

    def judged(self, entries: Sequence[Entry]) -> dict[str, list[Ending]]:
        """What breakers are to hear of decided entries. On the loop's thread."""
        return self._gatekeeper.judged(entries)

    def visit(
        self,
        worker_id: str,
        outcomes: Sequence[Outcome],
        endings: Mapping[str, Sequence[Ending]],
        want: Want | None,
        free: int,
    ) -> Visit:
        """One exchange; guarded tasks are claimed as far as their limits let them."""
        passage = None
        if want is not None and self._gatekeeper.guarded:
            passage = self._gatekeeper.ask(self._storage, want, free)
            want = passage.want
        try:
            exchange = self._storage.exchange(worker_id, outcomes, want)
        except Exception:
            if passage is not None:
                self._gatekeeper.unclaimed(passage)
            raise
        if finished := [outcome for outcome in outcomes if outcome.job_id in exchange.recorded]:
            self._plugins.observe("taskito_jobs_finished", outcomes=finished)
        opened = self._gatekeeper.tell(endings)
        if passage is None:
            return Visit(exchange, more=opened)
        strays = self._gatekeeper.claimed(passage, exchange.claims, exchange.now)
        more = opened or self._gatekeeper.more(passage, exchange.claims)
        return Visit(exchange, strays, more, passage.retry_after())

    def tidy(self) -> int:
        """Rescue what nobody watches, and prune; how many jobs were pruned."""
        # A claim can commit just after its worker was declared dead and its jobs were rescued: that worker
        # is nobody's peer any more, so no suspicion would ever lead to this job.
        self._storage.rescue({})
        return self._storage.prune(PRUNE_BATCH)

    def sweep(self) -> Swept:
        return self._storage.sweep(SWEEP_BATCH)

    def note(self, notes: Sequence[Note]) -> None:
        """Store what jobs said; what the store refuses is dropped, for it would be refused again."""
        try:
            self._storage.note(notes)
        except StorageUnavailable:
            raise
        except StorageError as exc:
            log.error("%d notes of jobs cannot be stored: %s", len(notes), exc)

    def fire(self) -> float:
        """Enqueue what the schedules say; seconds until this is due again."""
        return self._schedules.fire(self._storage)

    def close(self) -> None:
        """Give back every connection. Nothing more is asked afterwards."""
        self._gatekeeper.close()
        self._storage.close()
