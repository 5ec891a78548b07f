"""``run_worker(pool="prefork")``: the ``taskito worker`` command as a subprocess of the caller.

A subprocess and not a fork of this one: the supervisor reaps every child it has and owns its
signals, and both would be wrong inside of another application.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from taskito_core.errors import ConfigError, TaskitoError

#: Exit codes of a worker that was asked to stop and did: drained, or drained with some jobs interrupted.
_STOPPED = (0, 75)
_STOPS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 10.0  #: seconds beyond its graceful timeout that a worker may take to stop; it promises 5


def command(
    app: str, queues: tuple[str, ...] | None, procs: int | None, graceful_timeout: float, boot_timeout: float
) -> list[str]:
    """The command line; no secrets in it: the worker learns the settings by importing the app."""
    words = [sys.executable, "-P", "-m", "taskito", "worker", "--app", app]
    words += ["--graceful-timeout", f"{graceful_timeout:g}", "--boot-timeout", f"{boot_timeout:g}"]
    if procs is not None:
        words += ["--procs", str(procs)]
    if queues:
        words += ["--queues", ",".join(queues)]
    return words


class SubprocessWorker:
    """The command as a subprocess: made, then run once."""

    def __init__(
        self,
        *,
        app: str | None,
        queues: tuple[str, ...] | None,
        procs: int | None,
        graceful_timeout: float,
        boot_timeout: float,
    ) -> None:
        if not app:
            raise ConfigError(
                "pool='prefork' needs app='module:attribute', where its processes find this queue"
            )
        self._app = app
        self._grace = graceful_timeout + _GRACE
        self._command = command(app, queues, procs, graceful_timeout, boot_timeout)
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False

    def request_shutdown(self) -> None:
        self._asked = True
        if self._process is not None:
            self._process.terminate()

    def run(self) -> None:
        """Start the worker, wait until it has ended. Raises TaskitoError if it failed."""
        # From before its start: a program that a shell runs in the background ignores SIGINT, and its
        # subprocess would inherit that, but it does not inherit a handler.
        with _stopping_on(_STOPS, self.request_shutdown):
            process = self._process = subprocess.Popen(self._command)
            try:
                if self._asked:  # while it was being started
                    process.terminate()
                code = process.wait()
            finally:
                _end(process, self._grace)
        # Asked before it could listen, it died of the signal, and had not begun anything.
        if code not in _STOPPED and not (self._asked and -code in _STOPS):
            raise TaskitoError(
                f"the worker of {self._app!r} ended with exit code {code}; what it wrote says why"
            )


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Leave no worker behind, whatever ended the wait."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _stopping_on(signums: Sequence[signal.Signals], stop: Callable[[], None]) -> Iterator[None]:
    """While the worker runs, these signals for us are meant for it. Only the main thread can arrange that.

    Each asks for the same, and is passed on as SIGTERM: a Ctrl-C in a terminal reaches the worker too, which
    takes two signals within half a second for one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pid = os.getpid()
    before: dict[int, Any] = {}

    def forward(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == pid:
            stop()
            return
        # A process that another thread has forked: the signal is its own, as if there were no worker.
        signal.signal(signum, _restorable(before.get(signum)))
        signal.raise_signal(signum)

    for signum in signums:
        before[signum] = signal.signal(signum, forward)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, _restorable(handler))


def _restorable(handler: Any) -> Any:
    """What ``signal.signal`` gave, as it takes it; None: it was set outside of Python."""
    return signal.SIG_DFL if handler is None else handler
