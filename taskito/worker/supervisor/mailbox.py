"""How other threads reach the loop: leave something, and the selector wakes."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """``post`` from any thread; ``take`` on the loop's. Readable while there may be something."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def post(self, item: T) -> None:
        self._items.append(item)
        with contextlib.suppress(BlockingIOError, OSError):
            # A full pipe is as good as one more byte: the loop is awake already. A closed one has no
            # loop behind it any more.
            self._write.send(b"\0")

    def fileno(self) -> int:
        return self._read.fileno()

    def take(self) -> list[T]:
        """Everything posted so far, oldest first."""
        with contextlib.suppress(BlockingIOError):
            self._read.recv(4096)
        items: list[T] = []
        with contextlib.suppress(IndexError):
            while True:
                items.append(self._items.popleft())
        return items

    def close(self) -> None:
        self._read.close()
        self._write.close()
