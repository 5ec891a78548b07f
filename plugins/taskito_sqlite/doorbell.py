"""Doorbells: one unix datagram socket per waiting worker and per waiting ``result()``.

A ring carries no data and may be lost, so everyone who waits also looks at the database's change
counter: seldom behind a working bell, often without one. Addresses travel in the database, so the
two ends need not agree on a directory. 107 bytes is the longest path a socket may have.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterable

from taskito_core import StorageError
from taskito_sqlite import queries
from taskito_sqlite.connection import Database

_LONGEST_PATH = 103  # macOS allows 103, Linux 107
#: Seconds between looks at the change counter behind a working bell: the net for lost rings.
RECHECK = 1.0
#: (seconds since the last change, seconds between looks) without a bell.
POLLING = ((1.0, 0.005), (10.0, 0.05), (float("inf"), 0.25))
#: A socket file this old that nobody listens on belonged to a process that was killed.
STALE_AFTER = 60.0
#: Bells that nobody waits with now, kept for the next ones who wait.
KEPT = 8


def runtime_directory() -> str | None:
    """This user's private directory for sockets, made if need be; None if none can be had.

    One for all databases, so that what is left of a killed process is found by whoever comes next.
    """
    bases = [f"{tempfile.gettempdir()}/taskito-{os.getuid()}", f"/tmp/taskito-{os.getuid()}"]
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        bases.insert(0, os.path.join(session, "taskito"))
    for base in bases:
        directory = os.path.join(base, "bells")
        if len(os.fsencode(directory)) + 18 <= _LONGEST_PATH and _private(base) and _private(directory):
            return directory
    return None


def _private(directory: str) -> bool:
    """Make the directory 0700; False if it is not ours alone (someone else may have made it first)."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


class Bell:
    """One socket that can be rung by its path."""

    def __init__(self, directory: str) -> None:
        self.address = os.path.join(directory, uuid.uuid4().hex[:16])
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(self.address)
        except BaseException:
            self._socket.close()
            raise
        # Also for those who never close their queue: at the end of the process, or of this object.
        self._remove = weakref.finalize(self, _remove, self.address, os.getpid())

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    def silence(self) -> bool:
        """Take all rings that came; True if there was one."""
        rung = False
        try:
            while True:
                self._socket.recv(16)
                rung = True
        except OSError:
            return rung

    def whole(self) -> bool:
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


def open_bell() -> Bell | None:
    """A new bell, or None if this system or this moment gives none."""
    directory = runtime_directory()
    if directory is None:
        return None
    try:
        return Bell(directory)
    except OSError:
        return None


def ring(addresses: Iterable[str]) -> None:
    """Ring every bell. One that is gone, full or forbidden is passed over: its owner looks by itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for address in addresses:
            try:
                sender.sendto(b"!", address)
            except OSError:
                pass


def sweep() -> None:
    """Remove the sockets of this user's processes that were killed."""
    directory = runtime_directory()
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


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError as exc:
            return exc.errno != errno.ECONNREFUSED
    return True


def pause(quiet: float) -> float:
    """Seconds until the next look without a bell, after so many quiet ones."""
    return next(pause for since, pause in POLLING if quiet < since)


class Watch:
    """The database's change counter, seen from one connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handle = database.watch()
        self._version = 0

    def changed(self) -> bool:
        """Has anybody committed since the last call? A database that cannot be read has not changed.

        True at first, and whenever the connection was opened anew: what was committed before, nobody knows.
        """
        try:
            version, fresh = self._database.version(self._handle)
        except StorageError:
            return False
        before, self._version = self._version, version
        return fresh or version != before

    def close(self) -> None:
        """Close the connection."""
        self._database.unwatch(self._handle)


class Ear:
    """The Wakeups of one worker: its bell, its interrupt, and the change counter behind both."""

    def __init__(self, database: Database, bell: Bell | None) -> None:
        self._bell = bell
        self._watch = Watch(database)
        self._watch.changed()  # from here on
        self._changed_at = time.monotonic()
        self._interrupted, self._interrupt = socket.socketpair()
        for end in (self._interrupted, self._interrupt):
            end.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._interrupted, select.POLLIN)
        if bell is not None:
            self._poll.register(bell, select.POLLIN)

    @property
    def address(self) -> str | None:
        """Where to ring, if there is a bell."""
        return None if self._bell is None else self._bell.address

    def wait(self, timeout: float) -> bool:
        """As ``Wakeups.wait``."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            events = self._poll.poll(1000 * min(left, self._pause()))
            woken, interrupted = self._take(events)
            if woken or interrupted:
                return woken
            if self._watch.changed():
                self._changed_at = time.monotonic()
                return True
            if time.monotonic() >= deadline:
                return False

    def interrupt(self) -> None:
        """As ``Wakeups.interrupt``."""
        try:
            self._interrupt.send(b"!")
        except OSError:
            pass  # full: it is interrupted already; closed: nobody waits

    def close(self) -> None:
        """As ``Wakeups.close``."""
        if self._bell is not None:
            self._bell.close()
        self._watch.close()
        self._interrupted.close()
        self._interrupt.close()

    def _take(self, events: list[tuple[int, int]]) -> tuple[bool, bool]:
        ready = {descriptor for descriptor, _ in events}
        woken = self._bell is not None and self._bell.fileno() in ready and self._bell.silence()
        interrupted = self._interrupted.fileno() in ready
        if interrupted:
            try:
                while self._interrupted.recv(64):
                    pass
            except OSError:
                pass
        return woken, interrupted

    def _pause(self) -> float:
        if self._bell is not None and self._bell.whole():
            return RECHECK
        return pause(time.monotonic() - self._changed_at)


class Waiters:
    """Waiting for jobs to end: a bell per waiting thread, kept and used again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free: list[Bell] = []

    def wait(self, job_id: str, timeout: float) -> bool:
        """Block until the job has ended, or ``timeout`` seconds; True if it has."""
        deadline = time.monotonic() + timeout
        ended, awaited = self._look(job_id)
        if ended or timeout <= 0:
            return ended
        bell = self._take()
        if bell is None:
            return self._watch_until(lambda: self._look(job_id)[0], deadline)
        try:
            if bell.address not in awaited and not self._ask(job_id, bell.address):
                return True
            return self._listen(job_id, bell, deadline)
        finally:
            self._give_back(bell)

    def wait_for_news(self, job_id: str, news: Callable[[], bool], timeout: float) -> bool:
        """Block until ``news()`` or the job has ended; looks whenever somebody commits."""
        return self._watch_until(lambda: news() or self._look(job_id)[0], time.monotonic() + timeout)

    def close(self) -> None:
        """Close the bells that nobody uses now."""
        while self._free:
            self._free.pop().close()

    def _listen(self, job_id: str, bell: Bell, deadline: float) -> bool:
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        while True:
            left = max(0.0, deadline - time.monotonic())
            poll.poll(1000 * min(left, RECHECK))
            # Before the look: a ring that comes after it must not be lost.
            bell.silence()
            ended, _ = self._look(job_id)
            if ended or time.monotonic() >= deadline:
                return ended

    def _watch_until(self, seen: Callable[[], bool], deadline: float) -> bool:
        watch = Watch(self._database)
        started = time.monotonic()
        try:
            while True:
                found = seen()
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                while left > 0 and not watch.changed():
                    time.sleep(min(left, pause(time.monotonic() - started)))
                    left = deadline - time.monotonic()
        finally:
            watch.close()

    def _take(self) -> Bell | None:
        try:
            bell = self._free.pop()
        except IndexError:
            return open_bell()
        bell.silence()
        if bell.whole():
            return bell
        bell.close()
        return open_bell()

    def _give_back(self, bell: Bell) -> None:
        if len(self._free) < KEPT:
            self._free.append(bell)
        else:
            bell.close()

    def _look(self, job_id: str) -> tuple[bool, list[str]]:
        """Has it ended, or is it gone? And who waits for it."""
        row = self._database.read(
            lambda connection: connection.execute(queries.WAITED_FOR, (job_id,)).fetchone()
        )
        if row is None:
            return True, []
        return bool(row[0]), (row[1] or "").split("\n")

    def _ask(self, job_id: str, address: str) -> bool:
        """Have us rung at the end; False if the job has ended meanwhile."""
        row = self._database.write(
            lambda connection: connection.execute(queries.AWAIT, (job_id, address)).fetchone(), durable=False
        )
        return row is not None
