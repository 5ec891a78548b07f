"""How long the store takes over the request under way, and whether a heartbeat must be sent beside it."""

from __future__ import annotations

import logging

from taskito.worker.dispatch.inflight import NEVER
from taskito.worker.store import requests
from taskito.worker.store.requests import Request

log = logging.getLogger("taskito.worker")

#: Seconds after which a request counts as slow: heartbeats do not wait for its answer.
SLOW_ANSWER = 5.0


class RequestTimer:
    """The request under way, since it was sent; a commit of it may wait for a standby."""

    def __init__(self) -> None:
        self.running = False
        self.beating = False  #: a heartbeat is sent beside it
        self._request: Request | None = None
        self._since = 0.0
        self._said = False  #: that it is slow

    def begin(self, request: Request | None, now: float) -> None:
        """It is sent; None: it stood by, and began by itself."""
        self.running, self._request, self._since = True, request, now

    def end(self, now: float) -> None:
        """It is answered, or nothing was under way."""
        if self._said:
            self._said = False
            log.info("the store answered after %.1f s", now - self._since)
        self.running = False

    def slow_at(self) -> float:
        """When it counts as slow; infinity: no heartbeat may be sent beside it, or one is."""
        if self.beating or isinstance(self._request, requests.SendHeartbeat | requests.Unregister):
            return NEVER
        return self._since + SLOW_ANSWER

    def beat_beside(self, now: float) -> None:
        """A heartbeat is sent; that it is needed is logged once."""
        self.beating = True
        if not self._said:
            self._said = True
            name = requests.ExchangeJobs.name if self._request is None else self._request.name
            waited = now - self._since
            log.warning(
                "the store has not answered %s for %.1f s; heartbeats do not wait for it", name, waited
            )
