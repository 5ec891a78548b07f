"""The jobs a child has been given and the results it has not sent yet.

Every job that comes in leaves exactly once, as a result or handed back: to take a job out of
``_waiting`` is to own it, and that is one atomic operation for the main thread, which runs jobs, and
for the control thread, which hands them back while the main thread is inside one. Both may read
the socket and both may write to it, each under its own lock.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections import deque

from taskito.worker.ipc.wire import (
    JobMessage,
    MessageParser,
    MessageType,
    WireError,
    pack,
    pack_seqs,
    unpack_jobs,
)

_READ_SIZE = 64 * 1024
#: Results are put together into messages up to about this size, in bytes.
_BATCH_SIZE = 1024 * 1024


class SupervisorGone(Exception):
    """The other end of the socket is closed: there is no supervisor to run jobs for."""


class Inbox:
    """One child's end of the data socket. Jobs in, results and handed-back jobs out."""

    def __init__(self, data: socket.socket) -> None:
        data.setblocking(True)
        self._data = data
        self._parser = MessageParser()
        self._waiting: deque[JobMessage] = deque()
        self._finished: deque[bytes] = deque()
        #: Bodies of NOTIFY messages, for the main thread.
        self.failure_events: deque[bytes] = deque()
        #: No more of them will come.
        self.dismissed = False
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._alarm_read, self._alarm_write = os.pipe()
        os.set_blocking(self._alarm_write, False)
        self._poll = select.poll()
        self._poll.register(data, select.POLLIN)
        self._poll.register(self._alarm_read, select.POLLIN)
        self._sending = False
        #: From now on nothing is begun.
        self.draining = False
        #: Jobs in the last frame that was read.
        self.frame_size = 0

    def is_alarm(self, fd: int) -> bool:
        """Is this ready descriptor the alarm? Raises OSError if it is, without draining: a task broke it."""
        if fd != self._alarm_read:
            return False
        if not self.draining:
            raise OSError(errno.EBADF, "a task closed or replaced descriptors that are not its own")
        return True

    @property
    def data(self) -> int:
        """The descriptor of the socket."""
        return self._data.fileno()

    @property
    def alarm(self) -> int:
        """A descriptor that is readable for ever once draining has begun."""
        return self._alarm_read

    def descriptors(self) -> tuple[int, ...]:
        """What a process forked by a task must not keep."""
        return (self._data.fileno(), self._alarm_read, self._alarm_write)

    @property
    def unsent(self) -> bool:
        """True if results wait, or were lost in an attempt to send them."""
        return self._sending or bool(self._finished)

    def close(self) -> None:
        """Close everything. A child never does: it exits."""
        self._data.close()
        os.close(self._alarm_read)
        os.close(self._alarm_write)

    # ---- main thread ----

    def take(self) -> JobMessage | None:
        """The next job, now its caller's own, or None if none is here."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def first(self) -> JobMessage | None:
        """What ``take`` would give; another thread may take it meanwhile."""
        try:
            return self._waiting[0]
        except IndexError:
            return None

    def put_back(self, job: JobMessage) -> None:
        """A job that was taken and not begun."""
        self._waiting.appendleft(job)

    def receive(self) -> None:
        """Take in what is there to read, without waiting; while draining hand it back. Raises as ``wait``."""
        if self.draining:
            self.hand_back()
        else:
            with self._reading:
                self._read()

    def wait(self) -> None:
        """Block until there may be a job to take, or draining has begun.

        Raises SupervisorGone, WireError, and OSError if a task closed our descriptors.
        """
        for fd, _ in self._poll.poll():
            self.is_alarm(fd)
        if not self.draining:
            with self._reading:
                self._read()

    def linger(self, timeout: float) -> None:
        """While draining: wait so long for more to read, and hand back what that is."""
        poll = select.poll()
        poll.register(self._data, select.POLLIN)
        if poll.poll(timeout * 1000):
            self.hand_back()

    def finish(self, result: bytes) -> None:
        """Keep a packed result until the next ``flush``."""
        self._finished.append(result)

    # ---- any thread ----

    def flush(self) -> None:
        """Send the finished results. Blocks until the supervisor's socket has taken them."""
        if self._finished:
            with self._writing:
                self._send_finished()

    def send(self, message: bytes) -> None:
        """Send a note of a running job. Blocks until the supervisor's socket has taken it."""
        with self._writing:
            self._data.sendall(message)

    def hand_back(self) -> None:
        """Send the finished results and the seqs of what has not begun, unread frames included."""
        with self._reading:
            while self._read():
                pass
        seqs = []
        while (job := self.take()) is not None:
            seqs.append(job.seq)
        with self._writing:
            self._send_finished()
            self._data.sendall(pack_seqs(MessageType.RETURNED, seqs))

    def drain(self) -> None:
        """Begin nothing more. Called in a signal handler too, so it takes no lock."""
        self.draining = True
        try:
            os.write(self._alarm_write, b".")
        except OSError:
            pass  # Full: it is readable already. Closed by a task: the next read or write will show that.

    def _send_finished(self) -> None:
        finished = self._finished
        while finished:
            self._sending = True
            parts, size = [finished.popleft()], 0
            while finished and size < _BATCH_SIZE:
                parts.append(finished.popleft())
                size += len(parts[-1])
            self._data.sendall(pack(MessageType.RESULTS, b"".join(parts)))
            self._sending = False

    def _read(self) -> bool:
        """Take in what one read gives; False if it gave nothing."""
        try:
            # Never blocking: the thread that saw it readable may find that the other has read it.
            data = self._data.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if not data:
            raise SupervisorGone
        for kind, body in self._parser.feed(data):
            match kind:
                case MessageType.JOBS:
                    jobs = list(unpack_jobs(body))
                    self.frame_size = len(jobs)
                    self._waiting.extend(jobs)
                case MessageType.NOTIFY:
                    self.failure_events.append(body)
                case MessageType.DISMISS:
                    self.dismissed = True
                case _:
                    raise WireError(f"an unexpected {kind.name} on the data socket")
        return True
