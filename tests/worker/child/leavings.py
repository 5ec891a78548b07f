"""Tasks that leave their process other than they found it. Part of the app ``tests.worker.child.jobs``."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import io
import logging
import logging.config
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any

from tests.worker.child.jobs import queue

task = queue.task


class OwnPolicy(asyncio.DefaultEventLoopPolicy):
    """One that makes no event loop."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        raise RuntimeError("no event loop of this policy")


async def _handle_signals() -> None:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, lambda: None)


def _gone_directory() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)


def _redirect() -> None:
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)


def _close_loop() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


WAYS: dict[str, Any] = {
    "stdout closed": lambda: sys.stdout.close(),  # noqa: PLW0108 - the one of that moment
    "stdout None": lambda: setattr(sys, "stdout", None),
    "stdout replaced": lambda: setattr(sys, "stdout", io.StringIO()),
    "stdout wrapped": lambda: setattr(sys, "stdout", io.TextIOWrapper(sys.stdout.buffer, "latin-1")),
    "stderr None": lambda: setattr(sys, "stderr", None),
    "stdin replaced": lambda: setattr(sys, "stdin", io.StringIO("y\n")),
    "descriptor 0 closed": lambda: os.close(0),
    "descriptor 1 closed": lambda: os.close(1),
    "descriptor 1 redirected": _redirect,
    "descriptor 2 closed": lambda: os.close(2),
    "SIGCHLD ignored": lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    "SIGPIPE not ignored": lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
    "SIGTERM ignored": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "SIGUSR1 ignored": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "signals of an event loop": lambda: asyncio.run(_handle_signals()),
    "a blocked mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()),
    "a policy": lambda: asyncio.set_event_loop_policy(OwnPolicy()),
    "a closed event loop": _close_loop,
    "no stack traces": faulthandler.disable,
    "loggers disabled": lambda: logging.config.dictConfig({"version": 1}),
    "logging disabled": logging.disable,
    "a directory that is gone": _gone_directory,
}


@task(name="leave")
def leave(way: str) -> None:
    """Return, and leave this."""
    WAYS[way]()


@task(name="leave_signal_handlers")
async def leave_signal_handlers() -> None:
    """In the loop that the next coroutine will use too."""
    await _handle_signals()


@task(name="leave_quietly_later")
def leave_quietly_later(way: str | None) -> None:
    """Nothing, or this: the next job of a task that has been quick before."""
    if way is not None:
        WAYS[way]()


@task(name="fail_and_leave")
def fail_and_leave(way: str) -> None:
    WAYS[way]()
    raise ValueError("after that")


@task(name="find")
def find() -> dict[str, Any]:
    """What a job may count on, tried."""
    print("printed by the next job", flush=True)
    print("said by the next job", file=sys.stderr, flush=True)
    command = subprocess.run(["sh", "-c", "echo written by its program; exit 7"], check=False)
    read_end, write_end = os.pipe()
    os.close(read_end)
    with contextlib.suppress(BrokenPipeError):
        os.write(write_end, b".")
    os.close(write_end)
    return {
        "exit code": command.returncode,
        "event loop": asyncio.run(asyncio.sleep(0, "turned")),
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "directory": os.path.isdir(os.getcwd()),
        "input": sys.stdin.read(),
    }
