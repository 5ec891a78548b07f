"""The app of the fault tests: tasks that behave, misbehave, and write down when they began and ended."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time

from taskito import Queue, current_job

queue = Queue()


def note(*words: object) -> None:
    """One line of the journal; O_APPEND makes lines of many processes whole and ordered."""
    fd = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, (" ".join(str(word) for word in words) + "\n").encode())
    finally:
        os.close(fd)


@queue.task
def add(left: int, right: int) -> int:
    return left + right


@queue.task
def noop() -> None:
    return None


@queue.task
def nap(seconds: float) -> str:
    """Sleep, and say so in the journal."""
    note("start", current_job.id, os.getpid())
    time.sleep(seconds)
    note("end", current_job.id, os.getpid())
    return "rested"


@queue.task
def square(number: int) -> int:
    """Quick, and in the journal."""
    note("start", current_job.id, os.getpid())
    return number * number


@queue.task(retry_backoff=0.01, max_retries=5)
def flaky(number: int, failures: int) -> int:
    """Fails so many times before it succeeds."""
    note("start", current_job.id, os.getpid())
    if current_job.retry_count < failures:
        raise ValueError(f"attempt {current_job.retry_count} of {number} fails on purpose")
    return number * number


@queue.task(max_retries=0)
def stubborn(seconds: float) -> None:
    """Swallows whatever is raised in it."""
    note("start", current_job.id, os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except BaseException as exc:
            note("swallowed", type(exc).__name__)


@queue.task(retry_backoff=0.01)
def die(signum: int, always: bool = False) -> str:
    """Kill the process it runs in; only on the first run unless ``always``."""
    note("start", current_job.id, os.getpid())
    if always or not seen_before():
        os.kill(os.getpid(), signum)
        time.sleep(60)
    return "survived"


@queue.task(retry_backoff=0.01)
def segfault() -> str:
    note("start", current_job.id, os.getpid())
    if not seen_before():
        ctypes.string_at(0)
    return "survived"


@queue.task(retry_backoff=0.01)
def leave(code: int) -> str:
    """os._exit, the first time."""
    note("start", current_job.id, os.getpid())
    if not seen_before():
        os._exit(code)
    return "survived"


@queue.task(max_retries=0)
def exit_politely(code: int) -> None:
    sys.exit(code)


@queue.task
def whoami() -> int:
    return os.getpid()


@queue.task
async def wait_async(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awaited"


@queue.task(timeout=1.0, max_retries=0)
def overrun(seconds: float) -> None:
    note("start", current_job.id, os.getpid())
    time.sleep(seconds)


@queue.task(max_retries=0)
def spin_in_c() -> None:
    """Holds the GIL in one C call for longer than any test lasts."""
    note("start", current_job.id, os.getpid())
    ctypes.PyDLL(None).sleep(600)


@queue.task
def big(size: int) -> bytes:
    return b"x" * size


@queue.task(retry_backoff=0.01)
def nap_then_big(seconds: float, size: int) -> bytes:
    note("start", current_job.id, os.getpid())
    time.sleep(seconds)
    note("end", current_job.id, os.getpid())
    return b"x" * size


def seen_before() -> bool:
    """Whether an earlier attempt of this job has begun; the current one has written its own line."""
    with open(os.environ["JOURNAL"]) as journal:
        return sum(1 for line in journal if line.startswith(f"start {current_job.id} ")) > 1
