"""Signals as numbers in a pipe: the handlers do nothing, the loop reads what came, in order.

The pipe belongs to one process. One that is forked while it stands (by a task in a thread of a worker, by
``multiprocessing``) inherits descriptor and handlers: a signal to the new process would stop the old one,
and do nothing to the new. So every fork gives it back what the program had before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from types import FrameType
from typing import Self

#: What a supervisor heeds. The rest of the job-control signals are ignored: a typo must not kill a worker.
HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE, signal.SIGALRM)


class SignalPipe:
    """Owns the process's signal dispositions while entered. Main thread only.

    With ``last`` the process ends after it: what is heeded stays ignored, so that a late signal
    cannot change an exit code that is already decided.
    """

    def __init__(
        self,
        heeded: tuple[signal.Signals, ...],
        ignored: tuple[signal.Signals, ...] = (),
        *,
        last: bool = False,
    ) -> None:
        self._heeded = heeded
        self._ignored = ignored
        self._last = last
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._before: dict[signal.Signals, object] = {}
        self._old_wakeup = -1

    def __enter__(self) -> Self:
        self._old_wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for signum in self._heeded:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue  # Started with nohup: it is to outlive its terminal.
            # A function and not SIG_IGN: ignored signals would not reach the descriptor.
            self._before[signum] = signal.signal(signum, _nothing)
        for signum in self._ignored:
            self._before[signum] = signal.signal(signum, signal.SIG_IGN)
        _forks.watch(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        _forks.forget(self)
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_IGN if self._last else handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._old_wakeup)
        self._read.close()
        self._write.close()

    def give_up(self) -> None:
        """In a process that was just forked: have the program's own handlers, and nothing of the parent's."""
        signal.set_wakeup_fd(-1)
        for signum, handler in self._before.items():
            # Those that other code has set meanwhile are its own to inherit.
            if signal.getsignal(signum) is (_nothing if signum in self._heeded else signal.SIG_IGN):
                signal.signal(signum, handler)  # type: ignore[arg-type]
        # Should this process come to the end of the block, there is nothing left to undo.
        self._before.clear()
        self._old_wakeup = -1
        self._read.close()
        self._write.close()

    def fileno(self) -> int:
        return self._read.fileno()

    def drain(self) -> list[int]:
        """The numbers that came since the last call, oldest first, those of ours only."""
        try:
            data = self._read.recv(4096)
        except BlockingIOError:
            return []
        return [signum for signum in data if signum in self._heeded]


def block(signums: tuple[signal.Signals, ...] = HEEDED) -> None:
    """Keep these pending until ``unblock``: from before the handlers stand, and across an exec."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signums)


def unblock(signums: tuple[signal.Signals, ...] = HEEDED) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signums)


def name(signum: int) -> str:
    """``SIGKILL`` for 9; ``signal 77`` for one without a name."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _nothing(signum: int, frame: FrameType | None) -> None:
    pass


class HeldSignals:
    """Keeps signals pending across a fork: one to the new process must not meet handlers of the old one."""

    def __init__(self, signums: tuple[signal.Signals, ...]) -> None:
        self._signums = signums
        self._masks = threading.local()  #: several threads may fork at once

    def hold(self) -> None:
        self._masks.found = signal.pthread_sigmask(signal.SIG_BLOCK, self._signums)

    def release(self) -> None:
        """In either process. Nothing happens if they were not held."""
        if (mask := self._masks.__dict__.pop("found", None)) is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Forks:
    """Sees every fork of this process, and has the new process give up the pipes that stand."""

    def __init__(self) -> None:
        self._pipes: list[SignalPipe] = []
        self._held = HeldSignals(HEEDED)
        self._installed = False

    def watch(self, pipe: SignalPipe) -> None:
        self._pipes.append(pipe)
        if not self._installed and hasattr(os, "register_at_fork"):
            # For the life of the process: a hook cannot be taken back.
            self._installed = True
            os.register_at_fork(
                before=self._before, after_in_parent=self._held.release, after_in_child=self._after_in_child
            )

    def forget(self, pipe: SignalPipe) -> None:
        with contextlib.suppress(ValueError):
            self._pipes.remove(pipe)

    def _before(self) -> None:
        if self._pipes:
            self._held.hold()

    def _after_in_child(self) -> None:
        # The newest first: it found what the one before it had set.
        while self._pipes:
            self._pipes.pop().give_up()
        self._held.release()


_forks = _Forks()
