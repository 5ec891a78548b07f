"""Ending a job that has passed its hard limit, without ever ending one that finished in time.

A child that is stuck between jobs (seq 0) is ended the same way; so is a job that goes on although it was
cancelled by force.

First its stack is written, then the process is stopped, and only if it still is inside of the same job
while it stands still, it is killed. The check costs some 100 µs and closes the race between the limit
and a job that ends at that very moment.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

from taskito.worker.children.child_handle import ChildHandle
from taskito.worker.ipc.slots import SlotTable

log = logging.getLogger("taskito.worker")

#: Seconds faulthandler gets to write the stack. It does so inside the signal handler, so this is ample.
DUMP_TIME = 0.05
#: Seconds a process gets to report that it stopped; one in uninterruptible sleep never does.
STOP_TIME = 0.1


class HardKill:
    """The steps, driven by time and by SIGCHLD."""

    def __init__(self, child: ChildHandle, slots: SlotTable, seq: int, now: float, cancelled: bool) -> None:
        self._child = child
        self._slots = slots
        self._seq = seq
        self._cancelled = cancelled
        self._stopping = False
        self.at = now + DUMP_TIME  #: when ``advance`` has something to do at the latest
        child.stack.clear()
        child.signal(signal.SIGUSR1)

    def advance(self, now: float) -> bool:
        """Take the next step if it is time; True once there is none left."""
        if not self._stopping:
            if now < self.at:
                return False
            self._child.signal(signal.SIGSTOP)
            self._stopping = True
            self.at = now + STOP_TIME
        if now < self.at and not self._stopped():
            return False
        running = self._slots.read(self._child.slot).running
        if self._seq not in running if self._seq else running:
            self._child.signal(signal.SIGCONT)
            return True
        if self._cancelled:
            self._child.cancelled = self._seq
            why = "its job was cancelled by force and goes on"
        else:
            self._child.timed_out = self._seq
            why = "its job is over its hard limit" if self._seq else "it holds jobs and does not begin them"
        log.info("child %d is killed: %s", self._child.pid, why)
        # Those that left its group would outlive it; while it stands still they cannot multiply.
        descendants = _descendants(self._child.pid)
        self._child.kill_group()
        for pid in descendants:
            _kill(pid)
        return True

    def _stopped(self) -> bool:
        try:
            return os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WNOHANG) is not None
        except ChildProcessError:
            return True


class HardTimeouts:
    """The children whose job is being ended."""

    def __init__(self, slots: SlotTable) -> None:
        self._slots = slots
        self._kills: dict[int, HardKill] = {}

    def begin(self, child: ChildHandle, seq: int, now: float, cancelled: bool = False) -> None:
        """End this job of the child, or the child that begins none (``seq`` 0).

        ``cancelled``: no limit has passed, it is that the job was cancelled.
        """
        if child.executor_id not in self._kills:
            self._kills[child.executor_id] = HardKill(child, self._slots, seq, now, cancelled)

    def advance(self, now: float) -> None:
        """Take every step that is due."""
        for executor_id, kill in list(self._kills.items()):
            if kill.advance(now):
                del self._kills[executor_id]

    def forget(self, child: ChildHandle) -> None:
        """It is dead."""
        self._kills.pop(child.executor_id, None)

    def next_deadline(self) -> float:
        """When ``advance`` has something to do at the latest; infinity: never."""
        return min((kill.at for kill in self._kills.values()), default=float("inf"))


def _descendants(pid: int) -> list[int]:
    """Children, grandchildren and so on, where /proc tells; [] elsewhere."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for listing in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                children = [int(word) for word in listing.read_text().split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
