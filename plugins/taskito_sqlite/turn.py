"""Writers take turns: first stand in line, then take the turn.

SQLite lets whoever asks at the right microsecond write next, so of two busy writers one can starve for
seconds. Here a writer that has just written must line up again, and whoever was first in line goes first.
The turn is a courtesy with a time limit: what makes writing safe is SQLite's own lock, so a stopped process
that holds the turn delays others once and is then passed by. It also keeps two of our connections from
checkpointing at the same instant, which versions before 3.51.3 do not survive in every case.
"""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time

#: Seconds a writer waits for its turn before it goes ahead without.
COURTESY = 1.0
#: Seconds nobody stands in line after a turn was not to be had.
IMPATIENCE = 5.0
#: Seconds between two tries: in line there may be many, at the head of the line there is one.
_IN_LINE = (0.0002, 0.001)
_AT_THE_HEAD = (0.00001, 0.00003)


class Turn:
    """The turn at one database, for the threads of this process and for all processes on this machine."""

    def __init__(self, path: str) -> None:
        self._paths = (f"{path}-line", f"{path}-turn")
        self._files: tuple[int, int] | None = None
        self._line = threading.Lock()
        self._turn = threading.Lock()
        self._passing_by_until = 0.0

    def take(self) -> bool:
        """Wait for the turn; False if it was not to be had in time: go ahead, but do not ``give``."""
        now = time.monotonic()
        if now < self._passing_by_until:
            return False
        deadline = now + COURTESY
        if not self._line.acquire(timeout=COURTESY):
            return False
        try:
            if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
                return False
        finally:
            self._line.release()
        if self._take_among_processes(deadline):
            return True
        self._turn.release()
        self._passing_by_until = time.monotonic() + IMPATIENCE
        return False

    def give(self) -> None:
        """Let the next one write. Only after ``take`` returned True."""
        try:
            if self._files is not None:
                fcntl.flock(self._files[1], fcntl.LOCK_UN)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the files, after whoever has the turn gave it back."""
        taken = self._turn.acquire(timeout=COURTESY)
        try:
            self.forget()
        finally:
            if taken:
                self._turn.release()

    def forget(self) -> None:
        """Close the files at once. In a forked child: then the parent's death alone frees its locks."""
        files, self._files = self._files, None
        for descriptor in files or ():
            os.close(descriptor)

    def _take_among_processes(self, deadline: float) -> bool:
        try:
            line, turn = self._open()
        except OSError:
            return False  # SQLite will say better what is wrong with this directory
        if not _lock(line, deadline, _IN_LINE):
            return False
        try:
            return _lock(turn, deadline, _AT_THE_HEAD)
        finally:
            fcntl.flock(line, fcntl.LOCK_UN)

    def _open(self) -> tuple[int, int]:
        if self._files is None:
            # Read-only is enough for flock, so users who share a database need not own each other's files.
            line, turn = (
                os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644) for path in self._paths
            )
            self._files = (line, turn)
        return self._files


def _lock(descriptor: int, deadline: float, between: tuple[float, float]) -> bool:
    """flock with a deadline, which flock itself does not know."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(random.uniform(*between))
