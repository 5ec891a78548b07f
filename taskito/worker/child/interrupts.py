"""Breaking into a running task from a signal handler: soft limits (SIGALRM), cancel and shutdown (SIGUSR2).

An interrupt is raised only while task code is running for the very job it is meant for: the handler
compares sequence numbers and checks which code it interrupted. Once the call has returned, its
outcome stands.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from types import CodeType, FrameType

from taskito.worker.child.bootstrap import handler_of
from taskito.worker.ipc.slots import SlotTable
from taskito_core.errors import JobCancelled, SoftTimeoutError, WorkerShutdown
from taskito_core.messages import CANCELLED_ON_REQUEST

#: A task that ignores its soft limit is reminded this often, in seconds.
REPEAT = 1.0
#: A seq that no slot ever names.
_NO_JOB = -1

Divert = Callable[[BaseException, FrameType | None], bool]


class Interrupts:
    """The interrupts of one child. Everything here runs in the main thread."""

    def __init__(self, slots: SlotTable, slot: int, divert: Divert) -> None:
        self._slots = slots
        self._slot = slot
        self._divert = divert  # True: the exception will reach the task by another way (an event loop)
        self._seq = 0
        self._armed = 0  # the seq whose soft limit is running
        self._open = False  # task code is running
        self._missed: BaseException | None = None
        #: What heeds SIGALRM and SIGUSR2 for the jobs that run beside each other.
        self.on_alarm = self.on_request = _nobody
        self._own_code: frozenset[CodeType] = frozenset({self.guard.__code__, self._limited.__code__})
        # Bound once: ``is`` tells whether they still stand.
        self._handlers = ((signal.SIGALRM, self._on_alarm), (signal.SIGUSR2, self._on_user_signal))

    def install(self) -> None:
        """Take over SIGALRM and SIGUSR2, and stop a timer that other code left running."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in self._handlers:
            signal.signal(signum, handler)

    def repair(self) -> bool:
        """After a job: undo what it did to these signals. False: it did nothing."""
        for signum, handler in self._handlers:
            if handler_of(signum) is not handler:
                self.install()
                return True
        return False

    def begin(self, seq: int) -> None:
        """The next call of ``guard`` is for this job. To be called before the slot table names it."""
        # In this order: a late signal for the last job that arrives in between finds itself outdated.
        self._seq = seq
        self._missed = None

    def guard(self, call: Callable[[], object], limit: float | None) -> object:
        """``call()``, broken into after ``limit`` seconds (None: never) or at the supervisor's request."""
        if limit is not None:
            return self._limited(call, limit)
        self._open = True
        try:
            # From here to the first line of the task no signal handler can run.
            if self._missed is not None:
                raise self._missed
            return call()
        finally:
            self._open = False

    def bounded(self, call: Callable[[], object], limit: float) -> None:
        """``call()``, which is no job's: broken into after ``limit`` seconds, and again while it goes on."""
        self.begin(_NO_JOB)
        with contextlib.suppress(SoftTimeoutError):
            self.guard(call, limit)

    def _limited(self, call: Callable[[], object], limit: float) -> object:
        self._armed = self._seq
        try:
            signal.setitimer(signal.ITIMER_REAL, limit, REPEAT)
            self._open = True
            if self._missed is not None:
                raise self._missed
            return call()
        finally:
            self._open = False
            self._armed = 0
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        if self._armed and self._armed == self._seq:
            self._deliver(overran(), frame)
        else:
            self.on_alarm(frame)

    def _on_user_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._seq and self._slots.interrupt_seq(self._slot) == self._seq:
            self._deliver(requested(self._slots.cancel_seq(self._slot) == self._seq), frame)
        self.on_request(frame)

    def _deliver(self, exc: BaseException, frame: FrameType | None) -> None:
        if not self._open or (frame is not None and frame.f_code in self._own_code):
            # Not in the task yet, which will then not begin, or not any more, which makes it too late.
            self._missed = exc
            return
        if not self._divert(exc, frame):
            raise exc


def overran() -> SoftTimeoutError:
    """For a job over its soft limit."""
    return SoftTimeoutError("the task ran longer than its soft_timeout")


def requested(cancelled: bool) -> JobCancelled | WorkerShutdown:
    """For a job that is to be broken off, because it was cancelled or because the worker ends."""
    if cancelled:
        return JobCancelled(CANCELLED_ON_REQUEST)
    return WorkerShutdown("the worker is shutting down")


def _nobody(frame: FrameType | None) -> None:
    """There are no such jobs."""
