"""Standard output and error that cost nobody a job: a write never fails, and never waits for long.

Whoever reads them may be gone (``| head``, a terminal that was closed) or stand still (a stopped pager, a
collector of logs that hangs). What cannot be written in time is dropped, counted, and said when writing
is possible again. Nobody can close these streams, as a task may try to.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import stat
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: Seconds that a write of a worker's own loop waits for a reader that stands still, and one of a task.
LOOP_PATIENCE = 0.05
TASK_PATIENCE = 1.0


def protect(patience: float) -> None:
    """Put such streams in the place of ``sys.stdout`` and ``sys.stderr``, if those are the process's own.

    ``patience``: seconds without progress after which a write gives up. May be called again.
    """
    for name, fd in (("stdout", 1), ("stderr", 2)):
        found = getattr(sys, name)
        if isinstance(found, _Text):
            found.descriptor.patience = patience
        elif found is not None and _descriptor_of(found) == fd:
            with contextlib.suppress(OSError, ValueError):
                found.flush()
            # A character that the terminal's encoding does not have is no reason to fail either.
            errors = "backslashreplace" if found.errors == "strict" else found.errors
            descriptor = _Descriptor(fd, f"<{name}>", patience)
            stream = _Text(descriptor, found.encoding, errors, unbuffered=found.write_through)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _descriptor_of(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return -1


class _Descriptor(io.RawIOBase):
    """Writes to one descriptor what can be written at once or soon; it believes the rest was written."""

    def __init__(self, fd: int, name: str, patience: float) -> None:
        self.name = name
        self.mode = "wb"
        self.patience = patience
        self._fd = fd
        self._file: tuple[int, int] | None = None  #: what the descriptor led to when it was used last
        self._own: int | None = None  #: a descriptor of the same pipe or terminal that does not block
        self._lost = 0  #: bytes since the last that were written
        self._stuck = False  #: was waited for in vain
        _descriptors.add(self)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        try:
            if self._lost:
                note = f"\n({self._lost} bytes of output were lost: nobody read them)\n".encode()
                if self._send(memoryview(note)) < len(note):
                    self._lost += len(view)
                    return len(view)
                self._lost = 0
            self._lost += len(view) - self._send(view)
        except OSError:
            self._lost += len(view)  # Nobody will ever read it, or there is no such descriptor.
        return len(view)

    def close(self) -> None:
        """Nobody closes it."""

    def forget(self) -> None:
        """In a process that was just forked, or for another file: what was opened is the old one's."""
        own, self._own = self._own, None
        if own is not None and file_of(own) == self._file:
            os.close(own)
        self._file = None

    def _send(self, view: memoryview) -> int:
        """How many bytes were taken. Raises OSError if none ever will be."""
        sent, give_up = 0, 0.0
        while sent < len(view):
            try:
                sent += self._write_some(view[sent:])
                self._stuck, give_up = False, 0.0
            except BlockingIOError:
                give_up = give_up or time.monotonic() + self.patience
                left = give_up - time.monotonic()
                # Only once: the next write of a reader that stands still must not wait as long again.
                if self._stuck or left <= 0 or not self._writable_within(left):
                    self._stuck = True
                    break
        return sent

    def _write_some(self, view: memoryview) -> int:
        """Without blocking: raises BlockingIOError instead."""
        file = file_of(self._fd)
        if file != self._file or (self._own is not None and file_of(self._own) != file):
            # A task has put another file in its place, or closed what is not its own.
            self.forget()
            self._own, self._file = _reopened(self._fd), file
        if self._own is not None:
            return os.write(self._own, view)
        kind = os.fstat(self._fd).st_mode
        if stat.S_ISSOCK(kind):
            with socket.socket(fileno=os.dup(self._fd)) as duplicate:
                return duplicate.send(view, socket.MSG_DONTWAIT)
        if stat.S_ISFIFO(kind) or os.isatty(self._fd):
            if not self._writable_within(0):
                raise BlockingIOError
            # So much fits, unless another process is quicker.
            return os.write(self._fd, view[: select.PIPE_BUF])
        return os.write(self._fd, view)

    def _writable_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))


class _Buffer(io.BufferedWriter):
    """Between text and descriptor. Wrapped in another stream by a task, it outlives that."""

    def close(self) -> None:
        self.flush()

    def detach(self) -> Any:
        raise io.UnsupportedOperation("standard output and error of a worker stay where they are")


class _Text(io.TextIOWrapper):
    """One line at a time: what was printed is there if the process is killed."""

    def __init__(
        self, descriptor: _Descriptor, encoding: str, errors: str | None, *, unbuffered: bool
    ) -> None:
        # As Python makes them itself, ``-u`` included.
        buffer: Any = descriptor if unbuffered else _Buffer(descriptor)
        super().__init__(buffer, encoding, errors, line_buffering=True, write_through=unbuffered)
        self.descriptor = descriptor

    def close(self) -> None:
        self.flush()

    def detach(self) -> Any:
        raise io.UnsupportedOperation("standard output and error of a worker stay where they are")


def file_of(fd: int) -> tuple[int, int] | None:
    """Device and inode of what a descriptor leads to; None if it is not open."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _reopened(fd: int) -> int | None:
    """A descriptor of the same pipe or terminal with a mode of its own; None if there is no need, or no way.

    The mode of the one we were given is shared with all who write to it, the shell among them.
    """
    if not stat.S_ISFIFO(os.fstat(fd).st_mode) and not os.isatty(fd):
        return None
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        return None  # Another user's, or no Linux.


_descriptors: weakref.WeakSet[_Descriptor] = weakref.WeakSet()


def _forget_all() -> None:
    for descriptor in _descriptors:
        descriptor.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
