"""A fair write lock around SQLite's own: writers stand in line, and the first in line gets the next turn.

SQLite lets the writer that asks at the right microsecond write next, so of two busy writers one can starve
for seconds. Here a writer that has just written must line up again. The lock is a courtesy with a time limit:
SQLite's own makes writing safe, so a stopped process that holds this one delays others once and is then
passed by. It also keeps two of our connections from checkpointing at the same instant, which versions before
3.51.3 do not survive in every case.
"""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time

#: Seconds a writer waits for the lock before it goes ahead without.
COURTESY = 1.0
#: Seconds after such a wait in which no writer of this process stands in line.
IMPATIENCE = 5.0
#: Seconds between two tries, at least and at most: in line there may be many, at its head there is one.
_IN_LINE = (0.0002, 0.001)
_AT_THE_HEAD = (0.00001, 0.00003)


class WriteLock:
    """The lock of one database, for the threads of this process and for all processes on this machine."""

    def __init__(self, path: str) -> None:
        self._paths = (f"{path}-line", f"{path}-turn")
        self._files: tuple[int, int] | None = None
        self._line = threading.RLock()
        self._turn = threading.RLock()
        self._passing_by_until = 0.0

    def acquire(self) -> bool:
        """Wait for the turn; False if it could not be had in time: go ahead without it.

        Call ``release`` afterwards in either case, also if this was interrupted by an exception.
        """
        now = time.monotonic()
        if now < self._passing_by_until:
            return False
        deadline = now + COURTESY
        try:
            if self._line.acquire(timeout=COURTESY) and self._turn.acquire(timeout=COURTESY):
                if self._acquire_among_processes(deadline):
                    return True
                self._passing_by_until = time.monotonic() + IMPATIENCE
        finally:
            self._let_go(self._line, 0)
        return False

    def release(self) -> None:
        """Let the next one write, if this thread has the turn."""
        self._let_go(self._turn, 1)

    def close(self) -> None:
        """Close the files, once no thread has the turn."""
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

    def _acquire_among_processes(self, deadline: float) -> bool:
        try:
            line, turn = self._open()
        except OSError:
            return False  # SQLite will say better what is wrong with this directory
        return lock_file(line, deadline, _IN_LINE) and lock_file(turn, deadline, _AT_THE_HEAD)

    def _let_go(self, lock: threading.RLock, file: int) -> None:
        # A soft timeout may strike between any two steps of acquiring, so no step is remembered: if no other
        # thread has the lock, then what this process holds of the file is ours to give back.
        if not lock.acquire(blocking=False):
            return
        if self._files is not None:
            fcntl.flock(self._files[file], fcntl.LOCK_UN)
        lock.release()
        try:
            lock.release()
        except RuntimeError:
            pass  # it had not been acquired

    def _open(self) -> tuple[int, int]:
        if self._files is None:
            # Read-only is enough for flock, so users who share a database need not own each other's files.
            line, turn = (
                os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644) for path in self._paths
            )
            self._files = (line, turn)
        return self._files


def lock_file(descriptor: int, deadline: float, between: tuple[float, float]) -> bool:
    """flock with a deadline, which flock itself does not know; ``between``: seconds between two tries."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(random.uniform(*between))
