"""How a worker ends: which signal or deadline leads to which phase, and the exit code. Pure.

The first INT or TERM drains, the second interrupts what still runs, the third kills it. Without a second
one the graceful timeout interrupts, and three seconds later the rest is killed.
"""

from __future__ import annotations

import signal
from enum import IntEnum

#: A signal that follows sooner than this is the same keypress, or the same storm.
SECOND_AFTER = 0.5
THIRD_AFTER = 1.0
#: Seconds between WorkerShutdown in a running job and SIGKILL for its process.
INTERRUPT_GRACE = 3.0
#: Seconds left for recording the last outcomes once nothing runs any more.
FLUSH_GRACE = 1.0


class Phase(IntEnum):
    RUNNING = 0
    DRAINING = 1
    INTERRUPTING = 2
    KILLING = 3


class ExitCode(IntEnum):
    DRAINED = 0
    INTERNAL_ERROR = 1
    APP_FAILED = 3
    STORE_UNREACHABLE = 4
    INTERRUPTED_JOBS = 75  #: EX_TEMPFAIL: drained, but jobs had to be broken off


class Shutdown:
    """The phase this worker is in; only ever goes forward."""

    def __init__(self, graceful_timeout: float) -> None:
        self._graceful_timeout = graceful_timeout
        self._last_step = 0.0
        self._forced_by = 0
        self.phase = Phase.RUNNING
        self.deadline = float("inf")  #: when the next phase begins by itself
        self.flush_by = float("inf")  #: when recording outcomes is given up

    def signal(self, signum: int, now: float) -> None:
        """Heed an INT, TERM, HUP or QUIT."""
        if signum == signal.SIGQUIT:
            if self.phase < Phase.INTERRUPTING:
                self._enter(Phase.INTERRUPTING, now)
            return
        if self.phase is Phase.RUNNING:
            self._enter(Phase.DRAINING, now)
        elif self.phase is Phase.DRAINING and now - self._last_step >= SECOND_AFTER:
            self._enter(Phase.INTERRUPTING, now)
        elif self.phase is Phase.INTERRUPTING and now - self._last_step >= THIRD_AFTER:
            self._forced_by = signum
            self._enter(Phase.KILLING, now)

    def tick(self, now: float) -> None:
        """Let a deadline that has passed take its effect."""
        while now >= self.deadline and self.phase < Phase.KILLING:
            self._enter(Phase(self.phase + 1), now)

    def request(self, now: float) -> None:
        """Begin to drain, at the request of the program that this worker runs in."""
        if self.phase is Phase.RUNNING:
            self._enter(Phase.DRAINING, now)

    def exit_code(self, interrupted: int, unrecorded: int) -> int:
        """The exit code, given how many jobs were broken off and how many outcomes were not stored."""
        if self._forced_by:
            return 128 + self._forced_by
        if unrecorded:
            return ExitCode.INTERNAL_ERROR
        return ExitCode.INTERRUPTED_JOBS if interrupted else ExitCode.DRAINED

    def _enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self._last_step = now
        match phase:
            case Phase.DRAINING:
                self.deadline = now + self._graceful_timeout
                self.flush_by = self.deadline + INTERRUPT_GRACE + FLUSH_GRACE
            case Phase.INTERRUPTING:
                self.deadline = now + INTERRUPT_GRACE
                self.flush_by = self.deadline + FLUSH_GRACE
            case Phase.KILLING:
                self.deadline = float("inf")
                self.flush_by = now + FLUSH_GRACE
