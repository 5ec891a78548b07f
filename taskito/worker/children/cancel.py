"""Cancelling by force: the job is broken into, again while it goes on, and at last ended with its process."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from taskito.worker.children.child_handle import ChildHandle
from taskito.worker.children.hard_timeout import HardTimeouts
from taskito.worker.ipc.slots import SlotTable

#: Seconds between two interrupts of a job that goes on.
REPEAT = 1.0
#: Seconds a job has to end after the first one.
GRACE = 5.0


@dataclass(slots=True)
class _ForcedCancel:
    child: ChildHandle
    seq: int
    next_at: float
    kill_at: float


class ForcedCancels:
    """The jobs that were asked to cancel by force, and have not ended yet."""

    def __init__(self, slots: SlotTable, hard_timeouts: HardTimeouts) -> None:
        self._slots = slots
        self._hard_timeouts = hard_timeouts
        self._going_on: dict[int, _ForcedCancel] = {}

    def begin(self, child: ChildHandle, seq: int, now: float) -> None:
        """Break into this job, which the child is inside of. Asked again, it does nothing."""
        if seq not in self._going_on:
            self._going_on[seq] = _ForcedCancel(child, seq, now + REPEAT, now + GRACE)
            self._interrupt(child, seq)

    def advance(self, now: float) -> None:
        """Do what is due: one more interrupt, or the end of the process."""
        for seq, cancel in list(self._going_on.items()):
            if seq not in self._slots.read(cancel.child.slot).running:
                del self._going_on[seq]
            elif now >= cancel.kill_at:
                del self._going_on[seq]
                self._hard_timeouts.begin(cancel.child, cancel.seq, now, cancelled=True)
            elif now >= cancel.next_at:
                cancel.next_at = now + REPEAT
                self._interrupt(cancel.child, cancel.seq)

    def forget(self, child: ChildHandle) -> None:
        """It is dead."""
        for seq in [seq for seq, cancel in self._going_on.items() if cancel.child is child]:
            del self._going_on[seq]

    def next_deadline(self) -> float:
        """When ``advance`` has something to do at the latest; infinity: never."""
        return min((min(c.next_at, c.kill_at) for c in self._going_on.values()), default=float("inf"))

    def _interrupt(self, child: ChildHandle, seq: int) -> None:
        self._slots.set_interrupt(child.slot, seq)
        child.signal(signal.SIGUSR2)
