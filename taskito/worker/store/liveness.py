"""How workers on one host learn at once that another is gone, without asking the store.

Each worker makes a FIFO and holds its write end, as do its zygote and children by inheritance. Its
peers hold the read end: when the last of those processes is gone, however it died, the kernel
reports end of file. So "gone" means supervisor *and* children: nothing of it can still run a job.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import selectors
import time
from collections.abc import Callable
from pathlib import Path

from taskito_core.directories import runtime_directory

log = logging.getLogger("taskito.worker")

#: Seconds after which a lifeline that no process holds serves no purpose: any lease has run out.
_STALE_AFTER = 3600.0
_SAFE = re.compile(r"[^A-Za-z0-9_.-]")


def _directory() -> Path:
    """Where this user's lifelines are. Raises OSError if no private directory can be had."""
    directory = runtime_directory("lifelines")
    if directory is None:
        raise OSError("no private directory for it can be had")
    return directory


def _path(worker_id: str) -> Path:
    return _directory() / f"{_SAFE.sub('_', worker_id)}.alive"


class Lifeline:
    """Our own: open as long as this process or a child of it lives."""

    def __init__(self, worker_id: str) -> None:
        self._path = _path(worker_id)
        _sweep()
        os.mkfifo(self._path, 0o600)
        # Opened for both: for writing alone, it would wait for a reader.
        self.fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def rename(self, worker_id: str) -> None:
        """The worker goes on under a new id; nothing changes for the processes that hold it open."""
        path = _path(worker_id)
        try:
            self._path.rename(path)
        except OSError as exc:
            # A cleaner of temporary files may have removed it. The lease still holds.
            log.warning("no lifeline (%s): if this worker dies, its jobs wait for the lease to run out", exc)
        self._path = path

    def close(self, held_for_alive: bool = False) -> None:
        """The end of this worker.

        ``held_for_alive``: the store does not know of it. The name stays then, as after a sudden death, so
        that a peer sees at once that no process is left.
        """
        if not held_for_alive:
            self._path.unlink(missing_ok=True)
        os.close(self.fd)


def _sweep() -> None:
    """Remove what workers left that died long ago while no peer was there to remove it."""
    for path in _directory().glob("*.alive"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_AFTER and not _held(path):
                path.unlink()


def _held(path: Path) -> bool:
    """Whether some process still holds the writing end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, 1) != b""
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


class PeerLifelines:
    """The lifelines of the other workers on this host, watched by the loop's selector."""

    def __init__(self, selector: selectors.BaseSelector, on_gone: Callable[[], None]) -> None:
        self._selector = selector
        self._on_gone = on_gone
        self._lines: dict[str, int] = {}  #: worker id: descriptor of the read end
        self._gone: set[str] = set()

    def watch(self, worker_ids: set[str]) -> frozenset[str]:
        """Watch exactly these; the ones known to be gone with all their processes.

        Of one without a lifeline here (another user's, another container's) nothing is known.
        """
        for worker_id in self._lines.keys() - worker_ids:
            self._drop(worker_id)
        for worker_id in worker_ids - self._lines.keys() - self._gone:
            self._add(worker_id)
        self._gone &= worker_ids
        return frozenset(self._gone)

    def forget(self, worker_id: str) -> None:
        """Forget a worker whose jobs were rescued; if its processes are gone, remove what it left.

        One that was only stopped for too long still lives, and takes its lifeline along to its new id.
        """
        self._drop(worker_id)
        if worker_id in self._gone:
            self._gone.remove(worker_id)
            with contextlib.suppress(OSError):
                _path(worker_id).unlink(missing_ok=True)

    def close(self) -> None:
        for worker_id in list(self._lines):
            self._drop(worker_id)

    def _add(self, worker_id: str) -> None:
        try:
            fd = os.open(_path(worker_id), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        self._lines[worker_id] = fd
        # With no writer left when we opened it, the selector would stay silent: read once by hand.
        if not self._ended(worker_id):
            self._selector.register(fd, selectors.EVENT_READ, lambda _: self._ended(worker_id))

    def _ended(self, worker_id: str) -> bool:
        fd = self._lines.get(worker_id)
        if fd is None:
            return False  # Dropped in the same step of the loop in which its end was reported.
        try:
            if os.read(fd, 1):
                return False
        except BlockingIOError:
            return False
        self._drop(worker_id)
        self._gone.add(worker_id)
        self._on_gone()
        return True

    def _drop(self, worker_id: str) -> None:
        if (fd := self._lines.pop(worker_id, None)) is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
            os.close(fd)


def open_lifeline(worker_id: str) -> tuple[Lifeline | None, Callable[[str], None]]:
    """The worker's lifeline, and how to rename it; None where it cannot be had (the lease still holds)."""
    try:
        lifeline = Lifeline(worker_id)
    except OSError as exc:
        log.warning("no lifeline (%s): if this worker dies, its jobs wait for the lease to run out", exc)
        return None, lambda _: None
    return lifeline, lifeline.rename
