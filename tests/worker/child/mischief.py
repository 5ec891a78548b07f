"""Tasks that do to their process what a task should not. Part of the app ``tests.worker.child.jobs``."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.worker.child.jobs import descriptors, fail, queue

task = queue.task


@task(name="os_exit")
def os_exit(code: int) -> None:
    os._exit(code)


@task(name="kill_me")
def kill_me(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(10)


@task(name="segfault")
def segfault() -> None:
    ctypes.string_at(0)


@task(name="print_much")
def print_much(size: int) -> int:
    line = "x" * 99
    for _ in range(size // 100):
        print(line)
    os.write(1, b"straight to 1\n")
    os.write(2, b"straight to 2\n")
    return size


@task(name="close_stdio")
def close_stdio() -> None:
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(fd)


@task(name="close_all")
def close_all() -> None:
    os.closerange(3, 256)


@task(name="close_alarm")
def close_alarm() -> None:
    """What a program with one ``close`` too many does."""
    # Not the copies of the outputs, which begin at 100.
    numbers = [int(fd) for fd, target in descriptors().items() if "pipe" in target]
    pipes = sorted(fd for fd in numbers if 2 < fd < 100)
    for fd in pipes[-2:]:
        os.close(fd)


@task(name="overwrite_all")
def overwrite_all(path: str) -> None:
    """Put a file in the place of everything."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for other in range(3, 64):
        if other != fd:
            os.dup2(fd, other)


@task(name="write_garbage")
def write_garbage() -> None:
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as any_socket:
                any_socket.send(b"\xff" * 64)


@task(name="fork_and_exit")
def fork_and_exit() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@task(name="fork_and_return")
def fork_and_return() -> list[int]:
    """The copy returns from the task too, as those who forget ``os._exit`` have it."""
    pid = os.fork()
    if pid == 0:
        return [0, 0]
    return [pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


@task(name="fork_and_fail")
def fork_and_fail(how: str) -> list[int]:
    """The copy raises instead of exiting; its exit code."""
    pid = os.fork()
    if pid == 0:
        fail(how)
    return [pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


@task(name="fork_and_report")
def fork_and_report() -> dict[str, Any]:
    """What a forked copy looks like from inside."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        links = list(descriptors().values())
        report = {
            "term": str(signal.getsignal(signal.SIGTERM)),
            "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            "alarm": str(signal.getsignal(signal.SIGALRM)),
            "faulthandler": faulthandler.is_enabled(),
            "sockets": [link for link in links if link.startswith("socket:")],
            "files": [link for link in links if "memfd" in link or "alive" in link],
        }
        os.write(write_end, repr(report).encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        report = eval(pipe.read())
    os.waitpid(pid, 0)
    return dict(report)


@task(name="leave_grandchild")
def leave_grandchild() -> int:
    """A process that outlives its job and knows nothing better than to sleep."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return pid


@task(name="pool")
def pool() -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as workers:
        return workers.map(abs, [-1, -2, -3])  # leaving the block terminates them


@task(name="run_command")
def run_command() -> str:
    """The dispositions a program started by a task finds."""
    shown = subprocess.run(["cat", "/proc/self/status"], capture_output=True, check=True, text=True).stdout
    return "\n".join(line for line in shown.splitlines() if line.startswith(("SigIgn", "SigBlk")))


@task(name="own_alarm")
def own_alarm() -> str:
    def ring(signum: int, frame: object) -> None:
        raise TimeoutError("my own alarm")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        time.sleep(30)
    except TimeoutError as exc:
        return str(exc)
    return "no alarm"


@task(name="leave_alarm")
def leave_alarm() -> None:
    """An alarm that would ring in a later job."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(99))
    signal.setitimer(signal.ITIMER_REAL, 0.05)


@task(name="change_signals")
def change_signals() -> None:
    for signum in (signal.SIGUSR2, signal.SIGALRM, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL)


@task(name="chdir")
def chdir(path: str) -> None:
    os.chdir(path)


@task(name="nap")
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@task(name="stubborn_nap")
def stubborn_nap(entered: str) -> None:
    Path(entered).touch()
    time.sleep(60)


@task(name="hog")
def hog(entered: str) -> None:
    """Hold the GIL in C for ever."""
    Path(entered).touch()
    re.match(r"(a+)+$", "a" * 60 + "b")


@task(name="start_thread")
def start_thread(path: str) -> None:
    """A thread that is not a daemon and takes a moment after the job's end."""

    def late() -> None:
        time.sleep(0.3)
        Path(path).touch()

    threading.Thread(target=late).start()
