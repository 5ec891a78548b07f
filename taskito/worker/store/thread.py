"""The store thread: the only user of storage in a worker.

It does one request at a time, in order, and posts each answer (or exception) to the loop. While it has
nothing to do it listens for wakeups. It decides nothing: what to send again after an outage, and when,
is the loop's business.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from taskito_core.storage import Storage
from taskito_core.storage_worker import Wakeups

log = logging.getLogger("taskito.worker")

#: Seconds a wait without a wakeup lasts at most; the loop has its own timers, so this is only a belt.
_LONGEST_WAIT = 60.0


class Answer(NamedTuple):
    """What came of one request."""

    name: str
    value: object  #: what the function returned, None if it raised
    error: Exception | None


class StoreThread:
    """Runs storage calls beside the loop."""

    def __init__(
        self,
        storage: Storage,
        post: Callable[[Answer], None],
        woken: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._close = close  #: called last
        self._post = post
        self._woken = woken
        self._requests: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = queue.SimpleQueue()
        #: At most one; to take it out is to own it, and that is atomic.
        self._standing_by: deque[tuple[str, Callable[[], object]]] = deque()
        self._wakeups: Wakeups | None = None
        self._thread = threading.Thread(target=self._run, name="taskito-store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def request(self, name: str, function: Callable[[], object]) -> None:
        """Have ``function`` called on the store thread; its answer is posted under ``name``."""
        self._requests.put((name, function))
        self._interrupt()

    def stand_by(self, name: str, function: Callable[[], object]) -> None:
        """Have ``function`` called at the next wakeup, in place of ``woken``."""
        self._standing_by.append((name, function))

    def stand_down(self) -> bool:
        """Take back what stands by; False if a wakeup came first: then its answer is posted, or will be."""
        try:
            self._standing_by.pop()
        except IndexError:
            return False
        return True

    def listen(self, worker_id: str, queues: Sequence[str]) -> None:
        """On the store thread only (inside a request): hear wakeups for these queues from now on."""
        if self._wakeups is not None:
            self._wakeups.close()
        self._wakeups = self._storage.listen(worker_id, queues)

    def stop(self, timeout: float) -> bool:
        """Finish the requests at hand, close the storage and end; False if it did not within ``timeout``."""
        self.stand_down()
        self._requests.put(None)
        self._interrupt()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _interrupt(self) -> None:
        wakeups = self._wakeups
        if wakeups is not None:
            wakeups.interrupt()

    def _run(self) -> None:
        while (request := self._next()) is not None:
            name, function = request
            try:
                answer = Answer(name, function(), None)
            except Exception as exc:
                answer = Answer(name, None, exc)
            self._post(answer)
        if self._wakeups is not None:
            self._wakeups.close()
        self._close()

    def _next(self) -> tuple[str, Callable[[], object]] | None:
        """The next request; listens for wakeups until there is one."""
        while True:
            if self._wakeups is None:
                return self._requests.get()
            try:
                return self._requests.get_nowait()
            except queue.Empty:
                if self._heard(self._wakeups):
                    try:
                        return self._standing_by.pop()
                    except IndexError:
                        self._woken()

    def _heard(self, wakeups: Wakeups) -> bool:
        try:
            return wakeups.wait(_LONGEST_WAIT)
        except Exception:
            # It promises not to raise; but without this thread the worker would hang for ever.
            log.exception("the storage's wakeups broke; new jobs are found by looking every few seconds")
            self._wakeups = None
            return False
