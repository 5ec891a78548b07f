"""Waking those that wait: workers when jobs arrive, and callers of ``result()`` when theirs has ended.

Both LISTEN, and poll while they cannot: behind a pooler, or while the server is away.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from taskito_core import StorageConfig, Wakeups
from taskito_postgres import location
from taskito_postgres.arrays import Texts, storable
from taskito_postgres.base import Base
from taskito_postgres.connection import Connections
from taskito_postgres.notifications import Listener, Notifier
from taskito_postgres.session import Session
from taskito_postgres.sql import wakeups as sql

#: Seconds between two polls of a worker without a listener: from the first to the last.
POLL_FIRST, POLL_LAST = 0.05, 1.0
#: Seconds between two polls for a job's end although its end will be notified, in case that is lost.
SLOW_POLL = 1.0
#: Seconds before the row of an awaited job is marked: a claim passes over a row that changes under it, so a
#: caller that waits for a job enqueued just now would stand in the way of the worker that was notified.
MARK_AFTER = 0.002
#: Seconds between two polls for a job's end without a listener: from the first to the last.
FAST_POLL, LAST_POLL = 0.01, 0.25
#: Bytes of ids in one notification; PostgreSQL refuses 8000.
MAX_NOTIFICATION = 7000


class WakeupsMixin(Base):
    """``listen`` and ``await_finished`` of the contract, and the notifications of all others."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._work_channel = location.channel(config.schema, "work")
        self._done_channel = location.channel(config.schema, "done")
        self._notifier = Notifier(self._notify_workers)
        self._finished = FinishedListener(self._connections, self._done_channel)
        #: What the worker of this object is marked as waiting for, as far as this object knows.
        self._marked: str | None = None
        self._claimed = 0  #: claims so far; a worker that polls slows down only while it stands still

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        # Its own id is what is notified when one of its jobs is to be cancelled.
        topics = [*queues, worker_id]
        return WorkerWakeups(self._connections, self._work_channel, topics, lambda: self._claimed)

    def await_finished(self, job_id: str, timeout: float) -> bool:
        if not storable(job_id):
            return True
        deadline = time.monotonic() + timeout
        if (timeout <= 0 or not self._finished.is_listening) and not self._is_live(job_id):
            return True
        if timeout <= 0:
            return False
        event = threading.Event()
        with self._connections.translated("listen for finished jobs"):
            self._finished.expect([job_id], event)
        try:
            event.wait(min(MARK_AFTER, timeout))
            return self._wait_for_end(job_id, event, deadline)
        finally:
            self._finished.forget([job_id], event)
            self._notifier.waited()

    def await_any(self, ids: Sequence[str], timeout: float, woken: threading.Event) -> list[str]:
        deadline = time.monotonic() + timeout
        if unknown := [job_id for job_id in ids if not storable(job_id)]:
            return unknown
        with self._connections.translated("listen for finished jobs"):
            # ``woken`` is what the listener sets, too: whoever sets it, this returns.
            self._finished.expect(ids, woken)
        try:
            woken.wait(min(MARK_AFTER, timeout))
            pause = FAST_POLL
            while True:
                ended, unmarked = self._mark_as_awaited_any(ids)
                left = deadline - time.monotonic()
                if ended or left <= 0 or woken.is_set():
                    return ended
                will_hear = not unmarked and self._finished.is_listening
                pause = SLOW_POLL if will_hear else min(pause * 1.5, LAST_POLL)
                if woken.wait(min(left, pause)):
                    return self._mark_as_awaited_any(ids)[0]
        finally:
            self._finished.forget(ids, woken)
            self._notifier.waited()

    def _wait_for_end(
        self, job_id: str, event: threading.Event, deadline: float, or_until: Callable[[], bool] | None = None
    ) -> bool:
        """Wait until the job has ended or ``or_until()`` is true; False: until the deadline, in vain."""
        pause = MARK_AFTER if self._finished.is_listening else FAST_POLL
        while (awaited := self._mark_as_awaited(job_id)) is not None and not (or_until and or_until()):
            rest = deadline - time.monotonic()
            if rest <= 0:
                return False
            # A row that could not be marked is held: free again in a moment, or its end is notified anyway.
            will_hear = awaited and self._finished.is_listening
            pause = SLOW_POLL if will_hear else min(pause * 1.5, LAST_POLL)
            event.wait(min(rest, pause))
            event.clear()
        return True

    def _mark_as_awaited(self, job_id: str) -> bool | None:
        """Mark the job, and only then ask whether it has ended: None if it has, else if it is marked.

        A settle after the mark notifies us, and one before it is seen by the question.
        """

        def work(session: Session) -> list[tuple[Any, ...]]:
            with session.round_trip() as trip:
                trip.run(self._statements[sql.AWAIT], {"id": job_id})
                trip.commit()
                awaited = trip.run(self._statements[sql.IS_AWAITED], {"id": job_id})
            return awaited.fetchall()

        rows = self._connections.on_pool("wait for a job", work, repeatable=True)
        return rows[0][0] if rows else None

    def _mark_as_awaited_any(self, ids: Sequence[str]) -> tuple[list[str], bool]:
        """As ``_mark_as_awaited``: those that have ended, and whether another could not be marked."""

        def work(session: Session) -> list[tuple[Any, ...]]:
            parameters = {"ids": Texts(ids)}
            with session.round_trip() as trip:
                trip.run(self._statements[sql.AWAIT_MANY], parameters)
                trip.commit()
                awaited = trip.run(self._statements[sql.ARE_AWAITED], parameters)
            return awaited.fetchall()

        live = dict(self._connections.on_pool("wait for jobs", work, repeatable=True))
        return [job_id for job_id in ids if job_id not in live], not all(live.values())

    def _is_live(self, job_id: str) -> bool:
        [(live,)] = self._read("look at a job", sql.IS_LIVE, {"id": job_id})
        return bool(live)

    # ---- notifying ----

    def _notify(self, session: Session, awaited: Sequence[str], queues: Collection[str]) -> None:
        """Notify those that wait for the end of these jobs, and soon the workers of these queues."""
        if awaited:
            session.rows(self._statements[sql.NOTIFY_FINISHED], self._ends(awaited))
        if queues:
            self._notifier.notify_soon(queues)

    def _notify_workers(self, queues: list[str]) -> None:
        self._written("notify the workers", sql.NOTIFY_WORKERS, self._arrivals(queues))

    def _arrivals(self, queues: Sequence[str], worker_id: str = "") -> dict[str, object]:
        """Parameters of NOTIFY_WORKERS; ``worker_id`` is the worker that need not be notified."""
        return {"channel": self._work_channel, "queues": Texts(queues), "worker": worker_id}

    def _ends(self, job_ids: Sequence[str]) -> dict[str, object]:
        """Parameters of NOTIFY_FINISHED."""
        return {"channel": self._done_channel, "payloads": Texts(id_lists(job_ids))}


class WorkerWakeups:
    """``Wakeups`` of the contract, for one worker."""

    def __init__(
        self, connections: Connections, channel: str, topics: Collection[str], progress: Callable[[], int]
    ) -> None:
        self._listener = Listener(connections, channel, "taskito-listen")
        self._topics = frozenset(topics)
        self._progress = progress  #: grows while there is work: polling need not slow down
        self._seen = 0
        self._poll = POLL_FIRST
        self._listener.connect()
        self._listener.was_renewed()  # nothing was missed: the worker has not claimed yet

    def wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if self._concerns(self._listener.pending()):
            return True
        while True:
            if self._listener.was_renewed():
                return True
            rest = deadline - time.monotonic()
            polls = not self._listener.connected
            pause = min(rest, self._next_poll()) if polls else rest
            payloads = self._listener.block(pause)
            if payloads is None:
                return self._listener.was_renewed()
            if self._concerns(payloads):
                return True
            if polls or not self._listener.connected:
                return True  # nothing will be notified: poll
            if time.monotonic() >= deadline:
                return False

    def _concerns(self, payloads: Sequence[str]) -> bool:
        return not self._topics.isdisjoint(payloads)

    def _next_poll(self) -> float:
        progress = self._progress()
        self._poll = POLL_FIRST if progress != self._seen else min(self._poll * 2, POLL_LAST)
        self._seen = progress
        return self._poll * random.uniform(0.75, 1.0)

    def interrupt(self) -> None:
        self._listener.interrupt()

    def close(self) -> None:
        self._listener.close()


class FinishedListener:
    """One listener per storage for all that wait for a job's end. Its thread goes when none waits."""

    #: Seconds the listener stays after the last wait.
    LINGER = 5.0

    def __init__(self, connections: Connections, channel: str) -> None:
        self._connections = connections
        self._channel = channel
        self._lock = threading.Lock()
        self._waiting: dict[str, list[threading.Event]] = {}
        self._thread: threading.Thread | None = None
        self._listener: Listener | None = None
        self._closing = False

    def expect(self, job_ids: Sequence[str], event: threading.Event) -> None:
        """Have the event set when one of these ends is notified. Listening has begun when this returns."""
        with self._lock:
            if self._thread is None:
                self._start()
            for job_id in job_ids:
                self._waiting.setdefault(job_id, []).append(event)

    @property
    def is_listening(self) -> bool:
        """False while there is no connection, because the server is away or a pooler sits in between."""
        listener = self._listener
        return listener is not None and listener.connected

    def forget(self, job_ids: Sequence[str], event: threading.Event) -> None:
        with self._lock:
            for job_id in job_ids:
                events = self._waiting.get(job_id, [])
                if event in events:
                    events.remove(event)
                if not events:
                    self._waiting.pop(job_id, None)

    def _start(self) -> None:
        listener = Listener(self._connections, self._channel, "taskito-results")
        listener.connect()
        self._listener, self._closing = listener, False
        self._thread = threading.Thread(
            target=self._run, args=(listener,), name="taskito-results", daemon=True
        )
        self._thread.start()

    def _run(self, listener: Listener) -> None:
        idle_since = time.monotonic()
        while True:
            payloads = listener.block(self.LINGER / 5)
            with self._lock:
                if self._waiting:
                    idle_since = time.monotonic()
                over = self._closing or time.monotonic() - idle_since > self.LINGER
                if over:
                    if self._listener is listener:
                        self._thread = self._listener = None
                    break
                ended = [job_id for text in payloads or () for job_id in json.loads(text)]
                self._wake(None if listener.was_renewed() else ended)
        listener.close()

    def _wake(self, job_ids: Sequence[str] | None) -> None:
        """Set the events of these jobs; None: of all, because some ends may have been missed."""
        for job_id in list(self._waiting) if job_ids is None else job_ids:
            for event in self._waiting.get(job_id, ()):
                event.set()

    def close(self) -> None:
        with self._lock:
            self._closing = True
            thread, listener = self._thread, self._listener
            self._wake(None)
            if listener is not None:
                listener.interrupt()
        if thread is not None:
            thread.join(timeout=5.0)


def id_lists(ids: Sequence[str]) -> list[str]:
    """JSON lists of ids, each short enough for one notification."""
    done, chunk, size = [], list[str](), 0
    for job_id in ids:
        weight = len(json.dumps(job_id)) + 2
        if chunk and size + weight > MAX_NOTIFICATION:
            done.append(json.dumps(chunk))
            chunk, size = [], 0
        chunk.append(job_id)
        size += weight
    return [*done, json.dumps(chunk)] if chunk else done
