"""Notifying the workers that wait: at most once per 20 ms and process, and never lost at the end.

Every notifying commit takes one lock of the whole database, so a producer of thousands of jobs a
second must not notify for each of them.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection
from functools import partial

log = logging.getLogger("taskito.postgres")

#: Seconds between two notifications of one process.
INTERVAL = 0.02


class Notifier:
    """Decides when to notify. ``send`` notifies of jobs in some queues, in one statement, and may fail.

    Only notifications are rationed, not statements that find no waiting worker: those travel with the jobs.
    """

    def __init__(self, send: Callable[[list[str]], None]) -> None:
        self._send = send
        self._condition = threading.Condition()
        self._pending: set[str] = set()
        self._last = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False
        self._at_exit = partial(_flush, weakref.WeakMethod(self.close), os.getpid())

    def may_notify(self) -> bool:
        """True if the caller may notify in the round trip it makes anyway; else it calls ``notify_soon``."""
        return not self._pending and time.monotonic() - self._last >= INTERVAL

    def notified(self) -> None:
        """A worker was waiting and the caller has notified it: not again before the interval is over."""
        self._last = time.monotonic()

    def notify_soon(self, queues: Collection[str]) -> None:
        """Notify of jobs in these queues as soon as the interval allows, from a thread of its own."""
        with self._condition:
            if self._pending.issuperset(queues):
                return
            self._pending.update(queues)
            self._closed = False
            if self._thread is None:
                atexit.unregister(self._at_exit)
                atexit.register(self._at_exit)
                self._thread = threading.Thread(target=self._run, name="taskito-notifier", daemon=True)
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                # A thread that has nothing to do for a second goes; the next need starts another.
                if not self._condition.wait_for(lambda: self._pending or self._closed, timeout=1.0) or (
                    self._closed and not self._pending
                ):
                    self._thread = None
                    return
                rest = self._last + INTERVAL - time.monotonic()
                if rest > 0 and not self._closed:
                    self._condition.wait_for(lambda: self._closed, timeout=rest)
                queues, self._pending = sorted(self._pending), set()
                self._last = time.monotonic()
            self._try_to_send(queues)

    def _try_to_send(self, queues: list[str]) -> None:
        try:
            self._send(queues)
        except Exception as error:
            # Only a wakeup: a worker that misses it polls within seconds.
            log.debug("could not notify of jobs in %s: %s", queues, error)

    def close(self) -> None:
        """Send what is pending and stop. May be used again afterwards."""
        with self._condition:
            self._closed = True
            thread = self._thread
            self._condition.notify_all()
        if thread is not None:
            thread.join(timeout=5.0)
            atexit.unregister(self._at_exit)
        with self._condition:
            self._closed = False


def _flush(close: weakref.WeakMethod[Callable[[], None]], pid: int) -> None:
    # A forked child inherits the registration, but neither the thread nor the right to the connection.
    function = close() if os.getpid() == pid else None
    if function is not None:
        function()
