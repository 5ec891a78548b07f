"""A worker's ear: LISTEN on a connection of its own, and polling while there is none.

``notifies()`` holds its connection, so it is never one that does other work. Connecting
may take seconds and so happens in a thread: ``wait`` goes on polling meanwhile.
"""

from __future__ import annotations

import json
import logging
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence

import psycopg

from taskito_core import TaskitoError
from taskito_postgres.connection import Connections
from taskito_postgres.session import Connection, is_pooled

log = logging.getLogger("taskito.postgres")

#: Seconds between looks while there is no listener: from the first to the last.
POLL_FIRST, POLL_LAST = 0.05, 1.0
#: Seconds between attempts to connect again.
RECONNECT_FIRST, RECONNECT_LAST = 0.1, 10.0


def listening(connections: Connections, channel: str) -> Connection | None:
    """A connection that listens, or None if a pooler makes that impossible. Raises the driver's errors."""
    connection = connections.open(connections.settings())
    try:
        if is_pooled(connection):
            connection.close()
            return None
        connection.execute(f'LISTEN "{channel}"'.encode())
    except BaseException:
        connection.close()
        raise
    return connection


def heard(connection: Connection) -> list[str]:
    """Payloads that arrived, without waiting for more. Raises OperationalError for a lost connection."""
    connection.pgconn.consume_input()
    payloads = []
    while (notification := connection.pgconn.notifies()) is not None:
        payloads.append(notification.extra.decode())
    return payloads


class Line:
    """A listening connection, made again when it is lost. One thread uses it; ``interrupt`` is for all."""

    def __init__(self, connections: Connections, channel: str, name: str) -> None:
        self._connections = connections
        self._channel = channel
        self._name = name
        self._connection: Connection | None = None
        self._possible = True
        self._closed = False
        self._lock = threading.Lock()
        self._connector: threading.Thread | None = None
        self._give_up = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._renewed = False

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def was_renewed(self) -> bool:
        """True, once, after a connection was made: what came before it was missed."""
        with self._lock:
            renewed, self._renewed = self._renewed, False
        return renewed

    def connect(self) -> None:
        """Connect now if the server answers; else, and whenever the line is lost, in the background."""
        try:
            self._adopt(listening(self._connections, self._channel))
            self._drain()
        except (psycopg.Error, OSError) as error:
            log.warning("%s: %s", self._name, self._connections.translate(error, "listen"))
            self._reconnect()

    def block(self, timeout: float) -> list[str] | None:
        """Payloads that arrive within ``timeout`` seconds; None if interrupted, [] if nothing came."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            connection = self._connection
            if connection is not None:
                selector.register(connection.pgconn.socket, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(max(timeout, 0.0))}
        if self._reader in ready:
            self._drain()
            return None
        return self._read(connection) if ready and connection is not None else []

    def _read(self, connection: Connection) -> list[str]:
        try:
            return heard(connection)
        except (psycopg.Error, OSError) as error:
            log.warning("%s: %s", self._name, self._connections.translate(error, "listen"))
            self._lose(connection)
            return []

    def pending(self) -> list[str]:
        """Payloads that are here already."""
        return self._read(self._connection) if self._connection is not None else []

    def interrupt(self) -> None:
        try:
            self._writer.send(b"\0")
        except OSError:  # full: an interrupt is under way already; or closed
            pass

    def _drain(self) -> None:
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _lose(self, connection: Connection) -> None:
        connection.close()
        with self._lock:
            self._connection = None
        self._reconnect()

    def _reconnect(self) -> None:
        with self._lock:
            if self._closed or not self._possible or self._connector is not None:
                return
            self._connector = threading.Thread(target=self._keep_connecting, name=self._name, daemon=True)
            self._connector.start()

    def _keep_connecting(self) -> None:
        delay = RECONNECT_FIRST
        while not self._give_up.wait(delay * random.uniform(0.75, 1.25)):
            try:
                self._adopt(listening(self._connections, self._channel))
                break
            except (psycopg.Error, OSError, TaskitoError) as error:
                log.debug("%s: still cannot connect: %s", self._name, error)
                delay = min(delay * 2, RECONNECT_LAST)
        with self._lock:
            self._connector = None

    def _adopt(self, connection: Connection | None) -> None:
        with self._lock:
            if connection is None:
                self._possible = False
                return
            if self._closed:
                connection.close()
                return
            self._connection, self._renewed = connection, True
        self.interrupt()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            connector = self._connector
        self._give_up.set()
        if connector is not None:
            connector.join(timeout=2.0)
        if connection is not None:
            connection.close()
        self._reader.close()
        self._writer.close()


class Ear:
    """``Wakeups`` for one worker."""

    def __init__(
        self, connections: Connections, channel: str, queues: Collection[str], progress: Callable[[], int]
    ) -> None:
        self._line = Line(connections, channel, "taskito-listen")
        self._queues = frozenset(queues)
        self._progress = progress  #: grows while there is work: polling need not slow down
        self._seen = 0
        self._poll = POLL_FIRST
        self._line.connect()
        self._line.was_renewed()  # nothing was missed: whoever listens has not looked yet

    def wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if self._concerns(self._line.pending()):
            return True
        while True:
            if self._line.was_renewed():
                return True
            rest = deadline - time.monotonic()
            polls = not self._line.connected
            pause = min(rest, self._next_poll()) if polls else rest
            payloads = self._line.block(pause)
            if payloads is None:
                return self._line.was_renewed()
            if self._concerns(payloads):
                return True
            if polls or not self._line.connected:
                return True  # nobody will tell: look
            if time.monotonic() >= deadline:
                return False

    def _concerns(self, payloads: Sequence[str]) -> bool:
        return not self._queues.isdisjoint(payloads)

    def _next_poll(self) -> float:
        progress = self._progress()
        self._poll = POLL_FIRST if progress != self._seen else min(self._poll * 2, POLL_LAST)
        self._seen = progress
        return self._poll * random.uniform(0.75, 1.0)

    def interrupt(self) -> None:
        self._line.interrupt()

    def close(self) -> None:
        self._line.close()


class Finishes:
    """One listener per storage for all who wait for a job's end. Its thread goes when nobody waits."""

    #: Seconds the listener stays after the last one who waited.
    LINGER = 5.0

    def __init__(self, connections: Connections, channel: str) -> None:
        self._connections = connections
        self._channel = channel
        self._lock = threading.Lock()
        self._waiting: dict[str, list[threading.Event]] = {}
        self._thread: threading.Thread | None = None
        self._line: Line | None = None
        self._closing = False

    def expect(self, job_id: str) -> threading.Event:
        """An event that is set when the job's end is heard of. Listening has begun when this returns."""
        event = threading.Event()
        with self._lock:
            self._waiting.setdefault(job_id, []).append(event)
            if self._thread is None:
                self._start()
        return event

    @property
    def hears(self) -> bool:
        """False while there is no listener, because the server is away or a pooler sits in between."""
        line = self._line
        return line is not None and line.connected

    def forget(self, job_id: str, event: threading.Event) -> None:
        with self._lock:
            events = self._waiting.get(job_id, [])
            if event in events:
                events.remove(event)
            if not events:
                self._waiting.pop(job_id, None)

    def _start(self) -> None:
        line = Line(self._connections, self._channel, "taskito-results")
        line.connect()
        self._line, self._closing = line, False
        self._thread = threading.Thread(target=self._run, args=(line,), name="taskito-results", daemon=True)
        self._thread.start()

    def _run(self, line: Line) -> None:
        idle_since = time.monotonic()
        while True:
            payloads = line.block(self.LINGER / 5)
            with self._lock:
                if self._waiting:
                    idle_since = time.monotonic()
                over = self._closing or time.monotonic() - idle_since > self.LINGER
                if over:
                    if self._line is line:
                        self._thread = self._line = None
                    break
                ended = [job_id for text in payloads or () for job_id in json.loads(text)]
                self._wake(None if line.was_renewed() else ended)
        line.close()

    def _wake(self, job_ids: Sequence[str] | None) -> None:
        """Set the events of these jobs; None: of all, because some ends may have been missed."""
        for job_id in list(self._waiting) if job_ids is None else job_ids:
            for event in self._waiting.get(job_id, ()):
                event.set()

    def close(self) -> None:
        with self._lock:
            self._closing = True
            thread, line = self._thread, self._line
            self._wake(None)
            if line is not None:
                line.interrupt()
        if thread is not None:
            thread.join(timeout=5.0)
