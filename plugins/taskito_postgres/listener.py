"""LISTEN, on a connection of its own that is made again when it is lost.

psycopg's ``notifies()`` holds its connection, so it is never one that does other work. Connecting may take
seconds and so happens in a thread: the listener's user goes on polling meanwhile.
"""

from __future__ import annotations

import logging
import random
import selectors
import socket
import threading

import psycopg

from taskito_core import TaskitoError
from taskito_postgres.connection import Connections
from taskito_postgres.session import Connection, is_pooled

log = logging.getLogger("taskito.postgres")

#: Seconds between attempts to connect again.
RECONNECT_FIRST, RECONNECT_LAST = 0.1, 10.0


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
            self._adopt(listening_connection(self._connections, self._channel))
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
            return arrived(connection)
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
                self._adopt(listening_connection(self._connections, self._channel))
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
