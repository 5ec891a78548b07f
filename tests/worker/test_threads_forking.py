"""Processes that tasks start in a worker of threads: ordinary ones, and no way to stop the worker by them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito import Queue

from .conftest import LONG

PROGRAM = """
import concurrent.futures, multiprocessing, os, signal, subprocess, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # Whoever runs the tests may ignore it.
if sys.argv[2] == "asyncio":
    import asyncio
from taskito import Queue, current_job

queue = Queue(db_url=sys.argv[1], default_retry=0)
forking = multiprocessing.get_context("fork")

@queue.task(name="process")
def process():
    helper = forking.Process(target=time.sleep, args=(60,))
    helper.start()
    helper.terminate()
    helper.join(20)
    deadline = time.monotonic() + 20
    while helper.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.01)  # start() in another thread has reaped it, and tells its code a little later
    return helper.exitcode

@queue.task(name="pool")
def pool():
    with forking.Pool(2) as workers:
        return workers.map(abs, [-1, -2, -3])  # leaving the block terminates them

@queue.task(name="executor")
def executor():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=forking) as executor:
        return list(executor.map(abs, [-1, -2, -3]))

@queue.task(name="command")
def command(prepared):
    helper = subprocess.Popen(["sleep", "60"], preexec_fn=(lambda: None) if prepared else None)
    helper.terminate()
    return helper.wait(20)

@queue.task(name="fork")
def fork(signum):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, b".")
            time.sleep(60)
        except KeyboardInterrupt:
            os._exit(1)
        os._exit(0)
    if signum == signal.SIGINT:
        os.read(reading, 1)  # an exception in a hook of the fork itself would be lost
    os.close(reading)
    os.close(writing)
    os.kill(pid, signum)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

@queue.task(name="fork and return")
def fork_and_return():
    pid = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else "in the copy"

@queue.task(name="fork and fail")
def fork_and_fail():
    pid = os.fork()
    if not pid:
        raise SystemExit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

@queue.task(name="fork and speak")
def fork_and_speak():
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        current_job.log("from the copy")
    except RuntimeError:
        os._exit(3)
    os._exit(0)

@queue.task(name="several")
def several(count):
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(process.function())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [codes, len(signal.pthread_sigmask(signal.SIG_BLOCK, []))]

queue.run_worker(threads=2)
"""
TERMINATED = -int(signal.SIGTERM)


class Program:
    """A program whose main thread is in ``run_worker()``, and the queue it works for."""

    def __init__(self, queue: Queue, process: subprocess.Popen[bytes], log: Path) -> None:
        self._queue = queue
        self._process = process
        self._log = log

    def results(self, task: str, *arguments: object) -> list[object]:
        """Of three jobs, one after the other: a worker that was told to stop would not run the next."""
        return [self._queue.enqueue(task, arguments).result(LONG) for _ in range(3)]

    def assert_well(self) -> None:
        """It runs, and ends when it is told to."""
        assert self._process.poll() is None, self._log.read_text()
        assert "draining" not in self._log.read_text()
        self._process.terminate()
        assert self._process.wait(LONG) == 0, self._log.read_text()


@pytest.fixture(params=["plain", "asyncio"])
def program(
    request: pytest.FixtureRequest, backend_url: str, queue: Queue, tmp_path: Path
) -> Iterator[Program]:
    if backend_url.startswith("memory"):
        pytest.skip("two processes have no memory in common")
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, backend_url, request.param], stderr=out)
    yield Program(queue, process, log)
    process.kill()
    process.wait()


def test_what_a_task_starts_can_be_ended_and_does_not_end_the_worker(program: Program) -> None:
    for prepared in (False, True):
        assert program.results("command", prepared) == [TERMINATED] * 3
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        expected = 1 if signum is signal.SIGINT else -int(signum)
        assert program.results("fork", int(signum)) == [expected] * 3
    assert program.results("process") == [TERMINATED] * 3
    assert program.results("several", 8) == [[[TERMINATED] * 8, 0]] * 3
    program.assert_well()


def test_pools_of_processes_work_and_can_be_terminated(program: Program) -> None:
    assert program.results("pool") == [[1, 2, 3]] * 3
    assert program.results("executor") == [[1, 2, 3]] * 3
    program.assert_well()


def test_a_copy_that_comes_back_from_its_task_ends_there(program: Program) -> None:
    assert program.results("fork and return") == [0] * 3
    assert program.results("fork and fail") == [7] * 3
    assert program.results("fork and speak") == [3] * 3
    program.assert_well()
