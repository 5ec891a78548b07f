"""Signals as numbers in a pipe: the handlers do nothing, the loop reads what came, in order."""

from __future__ import annotations

import signal
import socket
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
        return self

    def __exit__(self, *exc_info: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_IGN if self._last else handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._old_wakeup)
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
