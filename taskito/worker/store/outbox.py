"""Which outcomes travel to the store together, and which alone. Pure."""

from __future__ import annotations

import logging

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import InFlight
from taskito_core.messages import rejected

log = logging.getLogger("taskito.worker")

#: Outcomes sent with one exchange, at most.
MAX_BATCH = 1000


class Outbox:
    """The decided outcomes of the dispatcher, cut into what one exchange takes."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        #: To be sent with nothing else: parts of a batch that was refused as a whole, and outcomes whose
        #: rows the task's own transaction may still hold.
        self._alone: list[list[InFlight]] = []
        self._stood_in: set[int] = set()  #: claims whose outcome was refused, and another is sent for it

    @property
    def waiting(self) -> bool:
        return bool(self._alone) or self._dispatcher.unrecorded > 0

    def take(self) -> tuple[list[InFlight], bool]:
        """The next batch, perhaps empty, and whether it travels alone: without a claim."""
        if self._alone:
            return self._alone.pop(0), True
        batch = self._dispatcher.take_outbox()
        if len(batch) > MAX_BATCH:
            self._dispatcher.unsettled(batch[MAX_BATCH:])
            batch = batch[:MAX_BATCH]
        if any(entry.apart for entry in batch):
            self._alone += [[entry] for entry in batch if entry.apart]
            batch = [entry for entry in batch if not entry.apart]
        return batch, False

    def refused(self, batch: list[InFlight], error: Exception) -> None:
        """The store refused this batch for an outcome in it: find that by halving, the rest is stored."""
        if len(batch) > 1:
            half = len(batch) // 2
            self._alone[:0] = [batch[:half], batch[half:]]
            return
        [entry] = batch
        claim = entry.claim
        if entry.seq in self._stood_in:
            self._stood_in.remove(entry.seq)
            log.error("job %s can be recorded neither with its outcome nor without: %s", claim.id, error)
            self._dispatcher.settled(batch, frozenset({claim.id}))
            return
        log.error("the outcome of job %s cannot be stored: %s", claim.id, error)
        self._stood_in.add(entry.seq)
        entry.outcome = rejected(claim.id, claim.token, error)
        self._alone.insert(0, batch)
