"""A wire to a server that can be cut, so that one worker loses the database and nobody else does."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Wire:
    """Forwards TCP connections to the server of a URL. ``with Wire(url) as wire: wire.url``."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.move(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        user = parts.netloc.rpartition("@")[0]
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}"))
        self._selector = selectors.DefaultSelector()
        self._ours, self._theirs = socket.socketpair()
        self._others: dict[socket.socket, socket.socket] = {}
        self._silent = self._refusing = self._closed = False
        self._thread = threading.Thread(target=self._run, name="wire")

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._theirs, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._tell(b"q")
        self._thread.join()
        self._selector.close()
        for end in (self._listener, self._ours, self._theirs):
            end.close()

    def cut(self, how: str) -> None:
        """``refused``: connections break none is let through; ``silent``: nothing arrives."""
        self._tell({"refused": b"r", "silent": b"s"}[how])

    def move(self, url: str) -> None:
        """New connections go to the server of that URL; those that are open stay where they are."""
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)

    def mend(self) -> None:
        """What was held back by silence arrives now."""
        self._tell(b"m")

    def _tell(self, command: bytes) -> None:
        self._ours.sendall(command)
        if command != b"q":
            assert self._ours.recv(1) == command

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                end = key.fileobj
                assert isinstance(end, socket.socket)
                if end is self._theirs:
                    self._heed(end.recv(1))
                elif self._silent:
                    continue
                elif end is self._listener:
                    self._accept()
                elif end in self._others:
                    self._forward(end)
            if self._silent:
                self._heed(self._theirs.recv(1))
        self._hang_up()

    def _heed(self, command: bytes) -> None:
        self._closed = command == b"q"
        self._silent, self._refusing = command == b"s", command == b"r"
        if self._refusing:
            self._hang_up()
        if not self._closed:
            self._theirs.sendall(command)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._refusing:
            client.close()
            return
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:  # down, or not up yet
            client.close()
            return
        server.settimeout(None)
        for one, other in ((client, server), (server, client)):
            self._others[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, end: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            if data := end.recv(65536):
                self._others[end].sendall(data)
                return
        self._drop(end)

    def _drop(self, end: socket.socket) -> None:
        for one in (end, self._others[end]):
            self._selector.unregister(one)
            del self._others[one]
            one.close()

    def _hang_up(self) -> None:
        while self._others:
            self._drop(next(iter(self._others)))
