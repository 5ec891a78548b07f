"""LISTEN and NOTIFY: one connection that listens, and notifications that are rationed.

psycopg's ``notifies()`` holds its connection, so it is never one that does other work. Connecting may take
seconds and so happens in a thread: the listener's user goes on polling meanwhile.

Every notifying commit takes one lock of the whole database, so a producer of thousands of jobs a second must
not notify for each of them: at most once per 20 ms and process, and never lost at the end.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Collection
from functools import partial

import psycopg

from taskito_core import TaskitoError
from taskito_postgres.connection import Connections
from taskito_postgres.session import Connection, is_pooled

log = logging.getLogger("taskito.postgres")

#: Seconds between attempts to connect again.
RECONNECT_FIRST, RECONNECT_LAST = 0.1, 10.0
#: Seconds between two notifications of one process that enqueues in a stream: workers claim batches then.
INTERVAL = 0.02


def listening_connection(connections: Connections, channel: str) -> Connection | None:
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


def arrived(connection: Connection) -> list[str]:
    """Payloads that arrived, without waiting for more. Raises OperationalError for a lost connection."""
    connection.pgconn.consume_input()
    payloads = []
    while (notification := connection.pgconn.notifies()) is not None:
        payloads.append(notification.extra.decode())
    return payloads


class Listener:
    """Notifications of one channel. One thread uses it; ``interrupt`` is for all."""

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
        self._renewals = 0  #: what the connections had counted when ours was made

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def was_renewed(self) -> bool:
        """True, once, after a connection was made: what came before it was missed."""
        with self._lock:
            renewed, self._renewed = self._renewed, False
        return renewed

    def connect(self) -> None:
        """Connect now if the server answers; else, and whenever the connection is lost, in the background."""
        try:
            self._adopt(*self._listening())
            self._drain()
        except (psycopg.Error, OSError) as error:
            log.warning("%s: %s", self._name, self._connections.translate(error, "listen"))
            self._reconnect()

    def block(self, timeout: float) -> list[str] | None:
        """Payloads that arrive within ``timeout`` seconds; None if interrupted, [] if nothing came."""
        self._lose_if_astray()
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
            return arrived(connection)
        except (psycopg.Error, OSError) as error:
            log.warning("%s: %s", self._name, self._connections.translate(error, "listen"))
            self._lose(connection)
            return []

    def pending(self) -> list[str]:
        """Payloads that are here already."""
        self._lose_if_astray()
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

    def _lose_if_astray(self) -> None:
        # A server that others were promoted over stays silent for ever, and answers if asked.
        if self._connection is not None and self._renewals != self._connections.renewals:
            self._lose(self._connection)

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
                self._adopt(*self._listening())
                break
            except (psycopg.Error, OSError, TaskitoError) as error:
                log.debug("%s: still cannot connect: %s", self._name, error)
                delay = min(delay * 2, RECONNECT_LAST)
        with self._lock:
            self._connector = None

    def _listening(self) -> tuple[Connection | None, int]:
        renewals = self._connections.renewals
        return listening_connection(self._connections, self._channel), renewals

    def _adopt(self, connection: Connection | None, renewals: int) -> None:
        with self._lock:
            if connection is None:
                self._possible = False
                return
            if self._closed:
                connection.close()
                return
            self._connection, self._renewals, self._renewed = connection, renewals, True
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

    def waited(self) -> None:
        """The caller has waited for the end of a job, and so does not enqueue in a stream: notify it may."""
        self._last = 0.0

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
