"""The control socket of a child, and the thread that answers it while the main thread is inside a job."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from typing import NoReturn

from taskito.worker.child.exit import at_once
from taskito.worker.child.inbox import Inbox, SupervisorGone
from taskito.worker.ipc.argv import EXIT_SUPERVISOR_GONE
from taskito.worker.ipc.wire import MessageParser, MessageType, WireError, pack


class Control:
    """Heeds what the supervisor tells a child beside its jobs. No signal reaches its thread."""

    def __init__(
        self, control: socket.socket, inbox: Inbox, break_off: Callable[[BaseException], NoReturn]
    ) -> None:
        self._control = control
        self._inbox = inbox
        self._break_off = break_off  #: ends the process, as the sockets do not work any more
        self._writing = threading.Lock()
        self.told_to_drain = False  #: by the supervisor, and not by a signal

    def start(self) -> None:
        """To be called while every signal is blocked, so that none is ever delivered to the thread."""
        threading.Thread(target=self._answer, name="taskito-control", daemon=True).start()

    def send(self, kind: MessageType, body: bytes = b"") -> None:
        """One message, from any thread."""
        with self._writing:
            self._control.sendall(pack(kind, body))

    def _answer(self) -> None:
        """Heed the control socket and the alarm until the process ends."""
        control, inbox = self._control, self._inbox
        parser = MessageParser()
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(inbox.alarm, select.POLLIN)
        try:
            while True:
                for fd, _ in poll.poll():
                    if inbox.is_alarm(fd):
                        poll.unregister(fd)
                        inbox.hand_back()
                        continue
                    data = control.recv(4096)
                    if not data:
                        raise SupervisorGone
                    for kind, _body in parser.feed(data):
                        self._heed(kind)
        except SupervisorGone:
            at_once(EXIT_SUPERVISOR_GONE)
        except BaseException as exc:
            self._break_off(exc)

    def _heed(self, kind: MessageType) -> None:
        match kind:
            case MessageType.RECALL:
                self._inbox.hand_back()
            case MessageType.DRAIN:
                self.told_to_drain = True
                self._inbox.drain()
            case _:
                raise WireError(f"an unexpected {kind.name} on the control socket")
