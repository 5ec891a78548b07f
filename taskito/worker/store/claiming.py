"""When a worker claims, how many jobs, and from which of its queues first. Pure."""

from __future__ import annotations

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.store.lease import TokenMint
from taskito.worker.store.requests import ExchangeResult, JobsSwept
from taskito.worker.store.timers import ClaimTimer
from taskito_core.job import Outcome, Release, Retry
from taskito_core.storage_worker import Want, WorkerInfo


class Claiming:
    """What is to be claimed next, by what the dispatcher has room for and earlier claims brought."""

    def __init__(self, worker: WorkerInfo, dispatcher: Dispatcher) -> None:
        self._queues = worker.queues
        self._dispatcher = dispatcher
        self._timer = ClaimTimer()
        self._tokens = TokenMint()
        self._first = 0  #: which queue is asked first
        self.wanted = 0  #: jobs asked for by the exchange under way

    def woken(self) -> None:
        """A job may have arrived."""
        self._timer.at_once()

    def limit(self, now: float) -> int:
        """How many jobs to ask for now; 0: it is not time."""
        return self._dispatcher.want() if self._timer.is_due(now, self._dispatcher.free()) else 0

    def standby_limit(self, now: float) -> int:
        """How many jobs to claim at the next wakeup; 0: nothing stands by."""
        limit = self._dispatcher.want()
        return limit if limit > 0 and not self._timer.is_due(now, self._dispatcher.free()) else 0

    def next_deadline(self) -> float:
        """When to claim without an event; infinity: there is no room, and getting some is an event."""
        return self._timer.next(self._dispatcher.free()) if self._dispatcher.want() > 0 else float("inf")

    def want(self, limit: int, now: float) -> Want | None:
        """What the next exchange asks for; None: nothing."""
        self.wanted = limit
        if limit <= 0:
            return None
        # Every queue comes first once per round: a full one must not starve the others.
        self._first = (self._first + 1) % len(self._queues)
        queues = self._queues[self._first :] + self._queues[: self._first]
        lanes = self._dispatcher.lanes.wanted(now)
        return Want(limit, queues, lanes, self._tokens.draw())

    def claimed(self, result: ExchangeResult, now: float) -> None:
        """Learn from an answer when to claim again."""
        exchange = result.exchange
        if len(exchange.claims) < self.wanted:
            self._timer.fell_short(now, result.retry_after, result.more)
            if exchange.next_due is not None:
                self._timer.by(now + seconds_until(exchange.next_due, exchange.now))
        elif self.wanted or exchange.opened or result.more:
            self._timer.at_once()  # Also after one that stood by: no wakeup announces what it left behind.

    def swept(self, reply: JobsSwept) -> None:
        """A sweep may have made jobs claimable."""
        if reply.swept.opened:
            self._timer.at_once()

    def handed_back(self, outcome: Outcome | None, now: float) -> float | None:
        """We handed a job back to the store: it may fall due before the next claim, and no wakeup tells us.

        The seconds until then, if it waits for its time.
        """
        match outcome:
            case Retry(delay=delay) | Release(delay=float() as delay):
                self._timer.by(now + delay)
                return delay
            case Release(lane=None):
                self._timer.at_once()
            case Release(lane=str() as lane):
                self._timer.by(self._dispatcher.lanes.again_at(lane, now))
        return None


def seconds_until(moment: int, now: int) -> float:
    """Seconds from one moment of the store's clock to another, 0 if it has passed."""
    return max(0.0, (moment - now) / 1000)
