"""The app of these tests: tasks that behave, and tasks that do everything a task should not."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import faulthandler
import multiprocessing
import os
import queue as queues
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from taskito import Queue, SoftTimeoutError, current_job

queue = Queue(db_path="/nonexistent/never-opened.db", max_payload=100_000)
task = queue.task

_marks: contextvars.ContextVar[str] = contextvars.ContextVar("marks", default="clean")


@task(name="add")
def add(a: int, b: int) -> int:
    return a + b


@task(name="nothing")
def nothing() -> None:
    pass


@task(name="about_me")
def about_me() -> dict[str, Any]:
    job = current_job
    return {"id": job.id, "task": job.task_name, "retries": job.retry_count, "metadata": job.metadata}


@task(name="process")
def process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "pgid": os.getpgid(0),
        "threads": [thread.name for thread in threading.enumerate()],
        "blocked": [int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "random": __import__("random").random(),
        "gc": __import__("gc").isenabled(),
        "descriptors": _descriptors(),
        "argv": sys.argv,
    }


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@task(name="gate")
def gate(opened: str, entered: str) -> str:
    """Say that it runs, then wait for somebody to create the file ``opened``."""
    Path(entered).touch()
    while not os.path.exists(opened):
        time.sleep(0.005)
    return "through"


@task(name="fail", dont_retry_on=(KeyError,))
def fail(kind: str) -> None:
    if kind == "key":
        raise KeyError("not again")
    if kind == "exit":
        sys.exit(1)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "text":
        raise ValueError("nul \0 and a surrogate \ud800")
    if kind == "strange":
        raise _Strange
    if kind == "deep":
        fail(kind)
    _raise_inside()


def _raise_inside() -> None:
    raise RuntimeError("as asked")


class _Strange(Exception):
    def __str__(self) -> str:
        raise SystemExit(5)


@task(name="give")
def give(what: str) -> object:
    return {"object": [{"deep": object()}], "big": "x" * 200_000, "bytes": b"\0\xff"}[what]


@task(name="mark")
def mark() -> str:
    """Answers what the last job left in the context; must always be clean."""
    before = _marks.get()
    _marks.set("dirty")
    return before


# ---- soft limits ----


def _until_soft(wait: Any) -> float:
    """Seconds until the soft limit broke into ``wait``, re-raised if it did not."""
    started = time.monotonic()
    try:
        wait()
    except SoftTimeoutError:
        return time.monotonic() - started
    return -1.0


@task(name="soft", soft_timeout=0.2)
def soft(where: str) -> float:
    ours, _theirs = socket.socketpair()
    lock = threading.Lock()
    lock.acquire()
    waits: dict[str, Any] = {
        "sleep": lambda: time.sleep(30),
        "recv": lambda: ours.recv(1),
        "lock": lambda: lock.acquire(timeout=30),
        "queue": lambda: queues.Queue[int]().get(timeout=30),
        "subprocess": lambda: subprocess.run(["sleep", "30"], check=True),
        "regex": lambda: re.match(r"(a+)+$", "a" * 40 + "b"),
        "python": lambda: _spin(30),
    }
    return _until_soft(waits[where])


def _spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@task(name="soft_uncaught", soft_timeout=0.1)
def soft_uncaught() -> None:
    try:
        time.sleep(30)
    except Exception:
        pass


@task(name="soft_stubborn", soft_timeout=0.1)
def soft_stubborn(times: int) -> list[float]:
    """Swallow the limit so often; the times at which it came."""
    came: list[float] = []
    while len(came) < times:
        try:
            time.sleep(30)
        except SoftTimeoutError:
            came.append(time.monotonic())
    return came


@task(name="soft_quick", soft_timeout=0.004)
def soft_quick(seconds: float) -> str:
    time.sleep(seconds)
    return "in time"


@task(name="async_add")
async def async_add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@task(name="async_about")
async def async_about() -> str:
    return await asyncio.to_thread(lambda: current_job.id)


@task(name="async_litter")
async def async_litter() -> int:
    """Leave a task behind; answer how many were there before."""
    before = len(asyncio.all_tasks()) - 1
    asyncio.get_running_loop().create_task(asyncio.sleep(30))
    return before


@task(name="async_soft", soft_timeout=0.2)
async def async_soft(where: str) -> str:
    try:
        if where == "sleep":
            await asyncio.sleep(30)
        elif where == "blocking":
            time.sleep(30)
        elif where == "gather":
            await asyncio.gather(asyncio.sleep(30), asyncio.sleep(30))
        elif where == "timeout":
            async with asyncio.timeout(20):
                await asyncio.sleep(30)
        elif where == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(30))
        elif where == "blocking child":
            await asyncio.get_running_loop().create_task(_block())
    except SoftTimeoutError:
        await asyncio.sleep(0)
        return "cleaned up"
    return "not interrupted"


async def _block() -> None:
    time.sleep(30)


@task(name="async_wait")
async def async_wait(entered: str) -> None:
    Path(entered).touch()
    await asyncio.sleep(60)


# ---- misbehaviour ----


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
    pipes = sorted(int(fd) for fd, target in _descriptors().items() if int(fd) > 2 and "pipe" in target)
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
        links = list(_descriptors().values())
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
