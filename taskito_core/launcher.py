"""``run_worker(pool="prefork")``: the ``taskito worker`` command as a subprocess of the caller.

A subprocess and not a fork of this one: the supervisor reaps every child it has and owns its
signals, and both would be wrong in somebody's application.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from taskito_core.errors import ConfigError, TaskitoError

if TYPE_CHECKING:
    from taskito_core.queue import Queue

#: Exit codes of a worker that was asked to stop and did: drained, or drained with some jobs interrupted.
_STOPPED = (0, 75)
_GRACE = 35.0  #: seconds a worker may take to stop before it is killed; it promises 30


class _Command:
    """The running subprocess as ``request_shutdown`` sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def request_shutdown(self) -> None:
        self._process.terminate()


def command(app: str, queues: tuple[str, ...] | None, procs: int | None) -> list[str]:
    """The command line; no secrets in it: the worker learns the settings by importing the app."""
    words = [sys.executable, "-m", "taskito_core.cli.main", "worker", "--app", app]
    if procs is not None:
        words += ["--procs", str(procs)]
    if queues:
        words += ["--queues", ",".join(queues)]
    return words


def run_prefork(queue: Queue, app: str | None, queues: tuple[str, ...] | None, procs: int | None) -> None:
    """Start the worker, wait until it has ended. Raises TaskitoError if it failed."""
    if not app:
        raise ConfigError("pool='prefork' needs app='module:attribute', where its processes find this queue")
    process = subprocess.Popen(command(app, queues, procs))
    running = _Command(process)
    queue._attach_worker(running)
    try:
        with _forwarding_sigterm(running.request_shutdown):
            code = _wait(process)
    finally:
        queue._detach_worker(running)
        _end(process)
    if code not in _STOPPED:
        raise TaskitoError(f"the worker of {app!r} ended with exit code {code}; what it wrote says why")


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # From a terminal it reached the worker too, which takes two within half a second for one.
            process.send_signal(signal.SIGINT)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no worker behind, whatever ended the wait."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _forwarding_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """While the worker runs, a SIGTERM for us is meant for it. Only the main thread can arrange that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda signum, frame: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
