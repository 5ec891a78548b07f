"""The app of the tests of features: tasks that use what a job can do, and write down when they ran."""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
import sqlite3
import time
import warnings
from contextlib import closing

from taskito import JobCancelled, Queue, current_job

queue = Queue()
loud = logging.getLogger("jobsapp.loud")
loud.addHandler(logging.StreamHandler())


def note(*words: object) -> None:
    """One line of the journal; O_APPEND makes lines of many processes whole and ordered."""
    fd = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, (" ".join(str(word) for word in words) + "\n").encode())
    finally:
        os.close(fd)


@queue.task
def nap(seconds: float) -> str:
    note("start", current_job.id)
    time.sleep(seconds)
    note("end", current_job.id)
    return "rested"


@queue.task(max_retries=0)
def patient(seconds: float) -> str:
    """Looks now and then whether it was asked to cancel."""
    note("start", current_job.id)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        current_job.check_cancelled()
        time.sleep(0.01)
    return "never asked"


@queue.task(max_retries=0)
def deaf(seconds: float) -> str:
    """Never looks; says so if it is broken into."""
    note("start", current_job.id)
    try:
        time.sleep(seconds)
    except JobCancelled:
        note("broken", current_job.id)
        raise
    return "never asked"


@queue.task
def talk(lines: int) -> int:
    """Says a lot, then waits to be let go."""
    for number in range(lines):
        current_job.log(f"line {number}", level="warning" if number % 2 else "info", extra={"number": number})
    current_job.update_progress(40)
    return lines


@queue.task(capture_output=True)
def chatter(lines: int) -> int:
    """Prints, warns through a handler that was made at import, and ends in the middle of a line."""
    for number in range(lines):
        print("line", number)
    loud.warning("over %d lines", lines)
    print("no end", end="")
    return lines


@queue.task(capture_output=True)
async def chatter_later(word: str) -> None:
    print(word)


@queue.task(capture_output=True, max_retries=0, timeout=1)
def chatter_and_hang() -> None:
    print("before it hung")
    time.sleep(60)


@queue.task(capture_output=True)
def chatter_forked() -> int:
    """A copy of the process prints, and then tries to speak for the job."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: a child has threads of its own
        pid = os.fork()
    if not pid:
        print("of the copy", flush=True)
        try:
            current_job.log("of the copy too")
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print("of the job")
    return os.waitstatus_to_exitcode(status)


@queue.task
def mutter() -> None:
    print("not kept: nobody asked for it")


@queue.task
def half_way(seconds: float) -> str:
    current_job.update_progress(50)
    note("start", current_job.id)
    time.sleep(seconds)
    return "done"


@queue.task
def count_up(to: int) -> int:
    """Publishes as it goes."""
    for number in current_job.track(range(to)):
        current_job.publish({"number": number})
        time.sleep(0.02)
    return to


@queue.task(max_retries=0)
def sleepy(times: int) -> int:
    """Asks to be run again later, so many times."""
    note("start", current_job.id)
    with open(os.environ["JOURNAL"]) as journal:
        runs = sum(line.split() == ["start", current_job.id] for line in journal)
    if runs <= times:
        current_job.snooze(0.2)
    return runs


async def _fail(name: str) -> None:
    raise getattr(builtins, name)("on purpose")


async def _fail_together(names: str) -> None:
    """Raise one group; ``A B (C D)`` has a group of C and D in it."""
    own, _, nested = names.rstrip(")").partition("(")
    async with asyncio.TaskGroup() as group:
        for name in own.split():
            group.create_task(_fail(name))
        if nested:
            group.create_task(_fail_together(nested))


@queue.task(retry_on=(OSError, KeyError), max_retries=2, retry_delays=[0])
async def only_some(names: str) -> None:
    note("start", current_job.id)
    await _fail_together(names)


@queue.task(dont_retry_on=[ValueError, FileNotFoundError], max_retries=2, retry_delays=[0])
async def all_but(names: str) -> None:
    note("start", current_job.id)
    await _fail_together(names)


@queue.task(max_retries=0)
async def sleepy_together(requests: int, fails: bool) -> int:
    """Asks to be run again later from several places at once, at its first run."""
    note("start", current_job.id)
    with open(os.environ["JOURNAL"]) as journal:
        if sum(line.split() == ["start", current_job.id] for line in journal) > 1:
            return requests
    async with asyncio.TaskGroup() as group:
        for number in range(requests):
            group.create_task(_snooze(0.1 * number))
        if fails:
            group.create_task(_fail("ValueError"))
    return 0


async def _snooze(seconds: float) -> None:
    current_job.snooze(seconds)


@queue.task(rate_limit="10/s")
def limited(number: int) -> int:
    note("limited", number, time.time())
    return number


@queue.task(rate_limit="1/d")
def daily() -> None:
    pass


@queue.task
def free(number: int) -> int:
    note("free", number, time.time())
    return number


@queue.task
def timed(seconds: float, name: str = "") -> None:
    note("timed", name or seconds, time.time())
    time.sleep(seconds)


@queue.task(concurrency=1, concurrency_key="user:{user}")
def keyed(user: str, seconds: float) -> None:
    note("enter", user, current_job.id)
    time.sleep(seconds)
    note("leave", user, current_job.id)


@queue.task(concurrency=2)
def at_most_two(seconds: float) -> None:
    note("enter", "all", current_job.id)
    time.sleep(seconds)
    note("leave", "all", current_job.id)


@queue.task(max_retries=0, circuit_breaker={"threshold": 3, "window": 60, "cooldown": 1})
def fragile(works: bool, held: str = "") -> bool:
    """Fails or works, once the file ``held`` is gone."""
    note("fragile", works)
    while os.path.exists(held):
        time.sleep(0.01)
    if not works:
        raise RuntimeError("broken on purpose")
    return works


@queue.task(max_retries=0, circuit_breaker={"threshold": 2, "cooldown": 3600})
def brittle(works: bool) -> bool:
    note("brittle", works)
    if not works:
        raise RuntimeError("broken on purpose")
    return works


@queue.task(max_retries=0, rate_limit="1000/s", circuit_breaker={"threshold": 2, "cooldown": 3600})
def brittle_and_limited(works: bool) -> bool:
    return bool(brittle(works))


@queue.task(max_retries=0, circuit_breaker={"threshold": 1, "cooldown": 3600})
def shut(works: bool) -> bool:
    if not works:
        raise RuntimeError("broken on purpose")
    return works


@queue.task
def record(database: str, fails: bool) -> str:
    """Writes a row and its own completion in one transaction, and may roll both back."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS written (job TEXT)")
        connection.execute("INSERT INTO written VALUES (?)", (current_job.id,))
        current_job.complete_in(connection, "recorded")
        if fails and current_job.retry_count == 0:
            connection.execute("ROLLBACK")
            raise RuntimeError("rolled back on purpose")
        connection.execute("COMMIT")
    return "not recorded"


@queue.periodic("* * * * * *")
def tick() -> None:
    note("tick", current_job.id)
