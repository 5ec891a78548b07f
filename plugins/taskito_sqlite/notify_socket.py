"""The sockets by which waiting processes are notified: one unix datagram socket for each that waits.

A datagram carries no data and may be lost. Addresses are paths and travel in the database, so the two ends
need not agree on a directory.
"""

from __future__ import annotations

import errno
import os
import socket
import time
import uuid
import weakref
from collections.abc import Iterable
from pathlib import Path

from taskito_core import runtime_directory

#: Bytes of the longest path a socket may have: 103 on macOS, 107 on Linux.
LONGEST_ADDRESS = 103
#: Characters of a socket's name, and the slash before it.
_NAME = 16
#: Seconds after which a socket file that answers nothing belongs to a process that was killed.
STALE_AFTER = 60.0


class NotifySocket:
    """One socket that other processes can notify by its path."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / uuid.uuid4().hex[:_NAME])
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(self.address)
        except BaseException:
            self._socket.close()
            raise
        # A queue may never be closed: at the end of the process, or of this object, the file goes too.
        self._remove = weakref.finalize(self, _remove, self.address, os.getpid())

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Take every notification that came; True if there was one."""
        notified = False
        try:
            while True:
                self._socket.recv(16)
                notified = True
        except OSError:
            return notified

    def exists(self) -> bool:
        """False if the socket's file is gone, for instance cleaned from a temporary directory."""
        return os.path.exists(self.address)

    def close(self) -> None:
        """Close and remove the socket."""
        self._socket.close()
        self._remove()


def _remove(address: str, pid: int) -> None:
    if pid != os.getpid():
        return  # a forked child's copy: the socket is the parent's
    try:
        os.unlink(address)
    except OSError:
        pass


def open_socket() -> NotifySocket | None:
    """A new socket, or None if this system or this moment gives none."""
    directory = _directory()
    if directory is None:
        return None
    try:
        return NotifySocket(directory)
    except OSError:
        return None


def notify(addresses: Iterable[str]) -> None:
    """Notify every address. One that is gone, full or forbidden is skipped: its owner checks by itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for address in addresses:
            try:
                sender.sendto(b"!", address)
            except OSError:
                pass


def remove_stale() -> None:
    """Remove the sockets of this user's processes that were killed."""
    directory = _directory()
    try:
        entries = [] if directory is None else list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        try:
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_AFTER
            if old and not _answers(entry.path):
                os.unlink(entry.path)
        except OSError:
            pass


def _directory() -> Path | None:
    # One for all databases: what a killed process has left is removed by the next one that listens.
    return runtime_directory("sockets", LONGEST_ADDRESS - _NAME - 1)


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError as exc:
            return exc.errno != errno.ECONNREFUSED
    return True
