"""The app of these tests: tasks that behave, and tasks that do everything a task should not."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue as queues
import re
import resource
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


@task(name="allocate")
def allocate(mebibytes: int, seconds: float = 0.0) -> int:
    """Have so much memory resident at once, and give it back."""
    held = bytearray(mebibytes * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(seconds)
    return len(held)


@task(name="no_more_files")
def no_more_files() -> None:
    """From now on this process can open nothing."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


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
        "descriptors": descriptors(),
        "argv": sys.argv,
    }


def descriptors() -> dict[str, str]:
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


@task(name="wrong_call")
def wrong_call(value: int) -> object:
    return min(value, key=value, nonsense=value)  # type: ignore[call-overload]


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


# The tasks that misbehave are registered by being imported, once the queue is there.
from tests.worker.child import leavings, loops, mischief  # noqa: E402, F401
