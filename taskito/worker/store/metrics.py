"""Takes what the worker has tallied to the metrics sink, beside everything else.

On a thread of its own, and not the store's: a sink that hangs or fails costs measurements and nothing more.
"""

from __future__ import annotations

import logging
import queue
import threading
import time

from taskito_core.metrics import Metrics, Tallies, Tally

log = logging.getLogger("taskito.worker")

#: Seconds from the first attempt that is not recorded yet to the call that records it.
INTERVAL = 1.0
#: Seconds until a sink that failed is tried again, if no newer attempts ask for it before.
RETRY_AFTER = 5.0
#: Seconds without an attempt after which the sink is closed: an idle worker holds no connection for it.
IDLE_AFTER = 10.0
#: Seconds an outage may last before what waits is dropped: it would count for the minute of the recovery.
PATIENCE = 300.0

NEVER = float("inf")


class MetricsRecorder:
    """Empties ``tallies`` into ``sink``. ``step`` and those after it are the loop's to call."""

    def __init__(self, sink: Metrics, tallies: Tallies) -> None:
        self._sink = sink
        self._tallies = tallies
        self._due = NEVER
        self._handed: queue.SimpleQueue[list[Tally] | None] = queue.SimpleQueue()
        # The thread's own:
        self._backlog = Tallies()
        self._open = False  #: the sink may hold connections
        self._failing_since: float | None = None
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="taskito-metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def step(self, now: float) -> None:
        """Hand over what was tallied, at most once per INTERVAL."""
        if not self._tallies:
            return
        if self._due == NEVER:
            self._due = now + INTERVAL
        # While the thread has not taken the last batch, what comes is added up here: it cannot pile up.
        if now >= self._due and self._handed.empty():
            self._handed.put(self._tallies.take())
            self._due = NEVER

    def next_deadline(self) -> float:
        """When ``step`` has something to do next without an event; infinity: never."""
        return self._due if self._handed.empty() else NEVER

    def finish(self) -> None:
        """Record the rest and end; does not wait for it."""
        self._handed.put(self._tallies.take())
        self._handed.put(None)

    def join(self, timeout: float) -> bool:
        """Wait until ``finish`` is done; False if it was not within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # ---- on the thread ----

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._backlog.merge(batch)
                if self._backlog:
                    self._record()
        finally:
            self._close()

    def _next(self) -> list[Tally] | None:
        """What was handed over, nothing if the backlog is to be tried again; None: it was the last."""
        patience = IDLE_AFTER if self._open else None
        try:
            return self._handed.get(timeout=RETRY_AFTER if self._backlog else patience)
        except queue.Empty:
            if not self._backlog:
                self._close()
            return []

    def _close(self) -> None:
        """Give back what the sink holds; its next call opens it again."""
        self._open = False
        try:
            self._sink.close()
        except Exception:
            # Whatever a plugin does wrong, the next second is to be recorded.
            log.exception("the metrics sink failed to close")

    def _record(self) -> None:
        batch = self._backlog.take()
        self._open = True
        try:
            self._sink.record(batch)
        except Exception as exc:
            self._keep(batch, exc, time.monotonic())
            return
        if self._failing_since is not None:
            log.warning(
                "metrics are recorded again after %.1f s; %d attempts are missing in them",
                time.monotonic() - self._failing_since,
                self._dropped,
            )
            self._failing_since, self._dropped = None, 0

    def _keep(self, batch: list[Tally], error: Exception, now: float) -> None:
        """Warn once per outage; for a while, keep what could not be recorded."""
        if self._failing_since is None:
            self._failing_since = now
            log.warning("metrics cannot be recorded: %s; jobs go on, what is measured is kept", error)
        if now - self._failing_since < PATIENCE:
            self._backlog.merge(batch)
        else:
            self._dropped += sum(tally.count for tally in batch)


class NoRecorder:
    """In the place of a MetricsRecorder, where no metrics are kept."""

    def start(self) -> None: ...

    def step(self, now: float) -> None: ...

    def next_deadline(self) -> float:
        return NEVER

    def finish(self) -> None: ...

    def join(self, timeout: float) -> bool:
        return True
