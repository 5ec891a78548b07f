"""The app of the fault tests: tasks that behave, misbehave, and write down when they began and ended."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import multiprocessing
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
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
def allocate(mebibytes: int) -> int:
    """Have so much memory resident at once, and give it back."""
    held = bytearray(mebibytes * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])
    return len(held)


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


@queue.task(max_retries=0, max_crashes=0)
def once(what: str, seconds: float = 60.0) -> str:
    """Begin at most once, then die, exit, overrun, nap, or swallow whatever is raised in it."""
    note("start", current_job.id, os.getpid())
    end = time.monotonic() + seconds
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(0)
        case "raise":
            raise ValueError("on purpose")
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except BaseException as exc:
            note("swallowed", type(exc).__name__)
            if what != "swallow":
                raise
    return "done"


@queue.task(max_retries=0, max_crashes=1, retry_backoff=0.01)
def once_more() -> None:
    note("start", current_job.id, os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


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
    """Holds the GIL in one C call that never ends and that no signal ends."""
    note("start", current_job.id, os.getpid())
    sum(itertools.repeat(0))


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


def wait_in_sleep() -> None:
    time.sleep(60)


def wait_in_recv() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.recv(1)


def wait_in_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def wait_in_subprocess() -> None:
    subprocess.run(["sleep", "60"], check=True)


def wait_in_regex() -> None:
    re.match(r"(a+)+$", "a" * 40 + "b")


def wait_in_loop() -> None:
    while True:
        pass


@queue.task(soft_timeout=0.3, timeout=30, max_retries=0)
def soft(where: str) -> None:
    """Wait for ever in one place of many; note when that ended."""
    began = time.monotonic()
    try:
        if where == "await":
            asyncio.run(asyncio.sleep(60))
        globals()[f"wait_in_{where}"]()
    finally:
        note("soft", time.monotonic() - began)


@queue.task(soft_timeout=0.2, timeout=30, max_retries=0)
def swallows_exceptions() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:
            pass


@queue.task(soft_timeout=0.2, timeout=3, max_retries=0)
def swallows_all() -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException as exc:
            note("swallowed", type(exc).__name__)


@queue.task(timeout=1.0, max_retries=0)
def overrun_in_c(seconds: int) -> None:
    sum(itertools.repeat(0))


@queue.task(timeout=1.0, max_retries=0)
def overrun_loop(seconds: int) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@queue.task(timeout=0.5, max_retries=1, retry_backoff=0.01)
def overrun_twice() -> None:
    note("start", current_job.id, os.getpid())
    time.sleep(60)


@queue.task(timeout=0.2, max_retries=0)
def about_a_limit(seconds: float) -> str:
    note("start", current_job.id, os.getpid())
    time.sleep(seconds)
    return "in time"


@queue.task(timeout=1.5, max_retries=0)
def overrun_with_grandchildren() -> None:
    for new_session in (False, True):
        process = subprocess.Popen(["sleep", "1000"], start_new_session=new_session)
        note("grandchild", process.pid)
    time.sleep(600)


@queue.task(timeout=0)
def unlimited(seconds: float) -> str:
    note("start", current_job.id, os.getpid())
    time.sleep(seconds)
    return "done"


@queue.task(timeout=2.0, max_retries=0)
def own_alarm(seconds: float) -> str:
    said: list[str] = []
    signal.signal(signal.SIGALRM, lambda signum, frame: said.append("my alarm"))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while not said:
        time.sleep(0.05)
    return said[0]


@queue.task
def prints(number: int) -> int:
    print("number", number, flush=True)
    print("number", number, file=sys.stderr)
    sys.stdout.buffer.write(b"bytes\n")
    return number


@queue.task(max_retries=1, retry_delays=[0.0])
def fails_and_prints() -> str:
    print("about to fail" * 1000)
    if current_job.retry_count == 0:
        raise ValueError("which the log tells")
    return "at last"


@queue.task
def chatter() -> str:
    """Says ten megabytes on both outputs, then closes them."""
    for _ in range(100):
        print("x" * 50_000)
        print("y" * 50_000, file=sys.stderr)
    os.write(1, b"raw\n")
    os.write(2, b"raw\n")
    for fd in (0, 1, 2):
        os.close(fd)
    return "quiet"


@queue.task(retry_backoff=0.01, max_retries=0)
def forks() -> list[int]:
    """A fork that dies of SIGTERM, and a pool that is terminated."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    pool = multiprocessing.get_context("fork").Pool(2)
    squares = pool.map(abs, [-1, -2, -3])
    pool.terminate()
    pool.join()
    return [os.WTERMSIG(status), *squares]


@queue.task(retry_backoff=0.01)
def closes_everything() -> str:
    note("start", current_job.id, os.getpid())
    if not seen_before():
        os.closerange(3, 1000)
        return "lost"
    return "survived"


@queue.task(retry_backoff=0.01)
def writes_garbage() -> str:
    """Writes nonsense into every socket of its process."""
    note("start", current_job.id, os.getpid())
    if not seen_before():
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, b"\xff" * 64)
        time.sleep(5)
    return "survived"


@queue.task(retry_backoff=0.01, max_retries=5)
def slow_square(number: int, seconds: float, failures: int = 0) -> int:
    """As ``square``, after a while, and after so many failures."""
    note("start", current_job.id, os.getpid())
    time.sleep(seconds)
    if current_job.retry_count < failures:
        raise ValueError(f"attempt {current_job.retry_count} of {number} fails on purpose")
    note("end", current_job.id, os.getpid())
    return number * number
