"""The supervisor's handle of one child process: its two sockets, its stack trace file, its state.

Writes never block: what a full or stopped child does not take waits in ``_outgoing``. Nothing
here knows about jobs beyond their bytes.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from enum import Enum, auto
from typing import Protocol

from taskito.worker.children.import_watch import ImportWatch
from taskito.worker.children.trace import Trace
from taskito.worker.ipc.wire import MessageParser, MessageType, WireError, pack

_READ_SIZE = 256 * 1024
#: A child that has not read so many bytes is sent nothing that can go to another.
_FULL = 1024 * 1024


class ChildEvents(Protocol):
    """What a child's sockets tell the pool."""

    def message(self, child: ChildHandle, kind: MessageType, body: bytes) -> None: ...

    def garbage(self, child: ChildHandle, what: str) -> None:
        """It wrote something that is no message; nothing more is read from that socket."""
        ...

    def silent(self, child: ChildHandle) -> None:
        """One of its sockets reached its end."""
        ...


class ChildState(Enum):
    STARTING = auto()  #: asked for; its pid may not be known yet
    OPEN = auto()  #: booted, takes jobs
    RECYCLING = auto()  #: asked to be replaced, and begins nothing more; goes when its replacement is open
    CLOSING = auto()  #: was told to end


class Channel:
    """One non-blocking stream of messages."""

    def __init__(self, selector: selectors.BaseSelector, sock: socket.socket, child: ChildHandle) -> None:
        self._selector = selector
        self._sock = sock
        self._child = child
        self._parser = MessageParser()
        self._outgoing = bytearray()
        self._events = selectors.EVENT_READ
        sock.setblocking(False)
        selector.register(sock, self._events, self.handle)

    def write(self, data: bytes) -> None:
        """Send what fits now, keep the rest for when the child reads again."""
        if not self._outgoing:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # The child is gone; its death accounts for what it did not get.
            if sent == len(data):
                return
            data = data[sent:]
        self._outgoing += data
        self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)

    @property
    def full(self) -> bool:
        """The child has not read for long."""
        return len(self._outgoing) >= _FULL

    def handle(self, mask: int) -> None:
        """The selector's callback."""
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if mask & selectors.EVENT_READ:
            self.read_all(once=True)

    def read_all(self, once: bool = False) -> None:
        """Read and deliver what is there; to the last byte unless ``once``. Never waits for end of file:
        a grandchild may hold the other end open."""
        while self._events:
            try:
                data = self._sock.recv(_READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._watch(0)
                self._child.events.silent(self._child)
                return
            try:
                for kind, body in self._parser.feed(data):
                    self._child.events.message(self._child, kind, body)
            except WireError as exc:
                self._watch(0)
                self._child.events.garbage(self._child, str(exc))
                return
            if once and len(data) < _READ_SIZE:
                return

    def close(self) -> None:
        self._watch(0)
        self._sock.close()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError:
            self._outgoing.clear()
            sent = 0
        del self._outgoing[:sent]
        if not self._outgoing:
            self._watch(selectors.EVENT_READ)

    def _watch(self, events: int) -> None:
        if events == self._events or not self._events:
            return  # Once both directions are given up, they stay so.
        self._events = events
        if events:
            self._selector.modify(self._sock, events, self.handle)
        else:
            self._selector.unregister(self._sock)


class ChildHandle:
    """One child process, from the wish for it to its reaping."""

    def __init__(
        self, executor_id: int, slot: int, selector: selectors.BaseSelector, events: ChildEvents, now: float
    ) -> None:
        self.executor_id = executor_id  #: unique for the life of the supervisor
        self.slot = slot  #: index in the slot table; used again after this child
        self.events = events
        self.state = ChildState.STARTING
        self.pid = 0  #: 0: not known yet
        self.started = now
        self.opened = 0.0
        self.ended_jobs = 0
        self.fault: str | None = None  #: why we killed it, if for misbehaving
        self.timed_out = 0  #: seq whose hard limit we killed it for
        self.cancelled = 0  #: seq of the job that was cancelled by force, for which we killed it
        self.killed = False  #: we killed it because we shut down
        self.dismissed = False  #: nothing more is sent to it
        self.reaped = False  #: its pid may be another process's by now
        self.doomed_at = float("inf")  #: when it is killed unless it has ended by then
        self.doomed_for = ""  #: why
        data, self.child_data = socket.socketpair()
        control, self.child_control = socket.socketpair()
        self.stack = Trace()
        self.import_watch: ImportWatch | None = None  #: of one that imports the app itself, until it has
        self.data = Channel(selector, data, self)
        self.control = Channel(selector, control, self)

    def close_childs_ends(self) -> None:
        """The child has its own copies now; ours would hide its end of file."""
        self.child_data.close()
        self.child_control.close()

    def doom(self, at: float, why: str) -> None:
        """Have the pool kill it then, if it has not ended by itself; the earliest such time counts."""
        if at < self.doomed_at:
            self.doomed_at, self.doomed_for = at, why

    @property
    def runs_callbacks(self) -> bool:
        """It takes failure events: it is open, or drains and was not dismissed yet."""
        return self.state is ChildState.OPEN or (self.state is ChildState.CLOSING and not self.dismissed)

    def dismiss(self) -> None:
        """Tell it, once, that no NOTIFY will come any more."""
        if not self.dismissed:
            self.dismissed = True
            self.data.write(pack(MessageType.DISMISS))

    def take_failure_event(self, message: bytes) -> bool:
        """Send it a NOTIFY message; False if it has too much to read already."""
        if self.data.full:
            return False
        self.data.write(message)
        return True

    def signal(self, signum: signal.Signals) -> None:
        """To the process alone, and not once it is reaped: the pid may be another process's then."""
        if self.pid and not self.reaped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def kill_group(self) -> None:
        """SIGKILL to the process and all it started in its group."""
        if not self.pid or self.reaped:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)  # Before its setpgid the group does not exist yet.

    def read_everything(self) -> None:
        """After its death: what it managed to write still counts."""
        self.data.read_all()
        self.control.read_all()

    def close(self) -> None:
        self.close_childs_ends()
        self.data.close()
        self.control.close()
        self.stack.close()
