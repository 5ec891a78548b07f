"""How children are started: forked by a zygote that imported the app, or each spawned anew.

A zygote is a process without threads that imports the app once and forks on request, so that a child
costs about two milliseconds and shares its memory. Spawning works everywhere, and with apps that start
threads at import.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from taskito.worker.children.child_handle import ChildHandle
from taskito.worker.children.import_watch import ImportWatch
from taskito.worker.children.trace import Trace
from taskito.worker.ipc import signals
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.ipc.slots import SlotTable
from taskito.worker.ipc.wire import MessageParser, MessageType, WireError, pack_slot_pid, unpack_slot_pid

log = logging.getLogger("taskito.worker")

#: The module that both are, run with ``python -m``. Named and not imported: it brings the app.
PROGRAM = "taskito.client.child_process"
#: Seconds a zygote may take to answer a fork request before it is replaced.
FORK_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What every child and zygote is started with."""

    app: str
    lifeline: int  #: descriptor they keep open as long as they live
    boot_timeout: float  #: seconds a child may take from its start to READY
    child: ChildOptions


class Launcher:
    """Starts a zygote or a child as a subprocess with inherited descriptors."""

    def __init__(self, options: LaunchOptions, slots: SlotTable) -> None:
        self.options = options
        self.slots = slots

    def _popen(
        self, role: str, arguments: list[str], descriptors: tuple[int, ...]
    ) -> subprocess.Popen[bytes]:
        options = self.options
        # -P: a file beside the app must not be taken for a module of the standard library that we import.
        command = [sys.executable, "-P", "-m", PROGRAM, role, options.app, *arguments]
        command += ["--slots", str(self.slots.fd), "--slot-count", str(self.slots.slots)]
        command += ["--lifeline", str(options.lifeline)]
        command += ["--options", options.child.to_argument()]
        # Blocked across the exec: a signal to the whole group must find the new process's own
        # dispositions standing, not the default ones that would kill it.
        signals.block()
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(self.slots.fd, options.lifeline, *descriptors),
            )
        finally:
            signals.unblock()


class SpawnLauncher(Launcher):
    """Every child is a fresh interpreter that imports the app itself."""

    def __init__(self, options: LaunchOptions, slots: SlotTable) -> None:
        super().__init__(options, slots)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def launch(self, child: ChildHandle) -> int:
        """Start the child; its pid."""
        data, control = child.child_data.fileno(), child.child_control.fileno()
        arguments = ["--slot", str(child.slot), "--data", str(data), "--control", str(control)]
        arguments += ["--trace", str(child.stack.fd), "--supervisor", str(os.getpid())]
        process = self._popen("child", arguments, (data, control, child.stack.fd))
        self._processes[process.pid] = process
        return process.pid

    def reaped(self, pid: int) -> None:
        process = self._processes.pop(pid, None)
        if process is not None:
            process.returncode = 0  # We reap by ourselves; Popen must not wait for it again.


class ZygoteHandle(Launcher):
    """The process that forks children for us."""

    def __init__(
        self,
        options: LaunchOptions,
        slots: SlotTable,
        selector: selectors.BaseSelector,
        on_ready: Callable[[AppManifest], None],
        on_failed: Callable[[str, str | None], None],
        on_forked: Callable[[int, int], None],
    ) -> None:
        super().__init__(options, slots)
        self._selector = selector
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._on_forked = on_forked
        self._parser = MessageParser()
        ours, theirs = socket.socketpair()
        self.stack = Trace()
        arguments = ["--channel", str(theirs.fileno()), "--trace", str(self.stack.fd)]
        try:
            self._process = self._popen("zygote", arguments, (theirs.fileno(), self.stack.fd))
        except OSError:
            ours.close()
            self.stack.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._channel = ours
        self._open = True
        self.pid = self._process.pid
        self.ready = False
        self.import_watch = ImportWatch(options.app, self, options.boot_timeout, time.monotonic())
        selector.register(ours, selectors.EVENT_READ, self._handle)

    def fork(self, child: ChildHandle) -> None:
        """Ask for a child; ``on_forked`` will tell its pid. Raises OSError if it cannot be asked now."""
        message = pack_slot_pid(MessageType.FORK, child.slot, os.getpid())
        descriptors = [child.child_data.fileno(), child.child_control.fileno(), child.stack.fd]
        sent = socket.send_fds(self._channel, [message], descriptors)
        if sent != len(message):
            raise OSError("the zygote takes no more requests")

    def signal(self, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def give_up(self) -> None:
        """Kill it while it imports the app, and what the app has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def gone(self) -> None:
        """It was reaped."""
        self.pid = 0
        self._process.returncode = 0
        self.hang_up()
        self.stack.close()

    def hang_up(self) -> None:
        """Close the channel: a zygote whose channel ends, ends."""
        if self._open:
            self._open = False
            self._selector.unregister(self._channel)
            self._channel.close()

    def read_everything(self) -> None:
        """What it wrote before it died still counts."""
        while self._open and self._handle(selectors.EVENT_READ):
            pass

    def _handle(self, mask: int) -> bool:
        """Take in what the zygote sent; False once there is nothing more."""
        try:
            data = self._channel.recv(1 << 20)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.hang_up()
            return False
        try:
            for kind, body in self._parser.feed(data):
                self._heed(kind, body)
        except (WireError, ValueError, KeyError, TypeError) as exc:
            log.error("the zygote sent something else than messages (%s); it is replaced", exc)
            self.kill()
            return False
        return self._open

    def _heed(self, kind: MessageType, body: bytes) -> None:
        match kind:
            case MessageType.READY:
                self.ready = True
                self._on_ready(AppManifest.from_json(body))
            case MessageType.FAILED:
                self._on_failed(*read_failure(body))
            case MessageType.FORKED:
                self._on_forked(*unpack_slot_pid(body))
            case _:
                raise WireError(f"an unexpected {kind.name}")


def read_failure(body: bytes) -> tuple[str, str | None]:
    """The body of FAILED: (message, traceback or None). ``["error", message]`` or ``["traceback", text]``."""
    kind, text = json.loads(body)
    if kind == "traceback":
        return "importing it failed", str(text)
    return str(text), None
