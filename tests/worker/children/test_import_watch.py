"""Apps whose import hangs: named, and in the end given up. Each with a real worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskito import Queue
from tests.faults.harness import Worker, children_of, title, wait_until

Start = Callable[..., Worker]

APP = """
import slow
from taskito import Queue

queue = Queue()

@queue.task(name="hello")
def hello():
    return "hello"
"""
#: A lock that nobody releases: no Python code runs any more. What was started at import is there beside it.
HANGS = """
import subprocess, threading
subprocess.Popen(["sleep", "600"])
lock = threading.Lock()

def wait():
    lock.acquire()

wait()
wait()
"""


@pytest.fixture
def start(tmp_path: Path, sqlite_url: str) -> Iterator[Start]:
    """Start a worker on an app that imports a module with this text."""
    workers: list[Worker] = []

    def start(slow: str, *arguments: str) -> Worker:
        (tmp_path / "slowapp.py").write_text(APP)
        (tmp_path / "slow.py").write_text(slow)
        workers.append(Worker(sqlite_url, tmp_path, "--procs", "1", *arguments, app="slowapp:queue"))
        return workers[-1].start()

    yield start
    for worker in workers:
        worker.kill_everything()


@pytest.mark.parametrize("method", ["zygote", "spawn"])
def test_an_import_that_hangs_is_named_and_then_ends_the_worker(
    start: Start, tmp_path: Path, method: str
) -> None:
    worker = start(HANGS, "--boot-timeout", "8", "--start-method", method)
    place = f"it is at line 10 of {tmp_path}/slow.py"

    wait_until(lambda: "takes longer" in worker.output(), 20)
    assert f"importing slowapp:queue takes longer than 5 s: {place}\n" in worker.output()
    assert worker.wait(20) == 3, worker.output()

    said = worker.output().partition("CRITICAL")[2]
    assert f"the app cannot be loaded: importing it did not end within 8 s: {place}\n" in said
    assert f'File "{tmp_path}/slow.py", line 7 in wait' in said
    assert f'File "{tmp_path}/slowapp.py", line 2 in <module>' in said
    assert "importlib" not in said
    worker.nothing_left()


def test_a_hanging_import_is_left_by_a_signal_at_once(start: Start) -> None:
    worker = start(HANGS, "--boot-timeout", "60")
    wait_until(lambda: any("zygote" in title(pid) for pid in children_of(worker.pid)), 20)

    worker.signal(signal.SIGINT)

    assert worker.wait(10) == 0


def test_an_app_that_would_die_of_being_asked_where_it_is_lives(start: Start, sqlite_url: str) -> None:
    worker = start("import signal, time\nsignal.signal(signal.SIGUSR1, signal.SIG_DFL)\ntime.sleep(6)\n")

    worker.ready(1)

    assert "importing slowapp:queue takes longer than 5 s\n" in worker.output()
    with Queue(db_url=sqlite_url) as queue:
        assert queue.enqueue("hello").result(30) == "hello"


def test_a_new_zygote_whose_import_hangs_is_tried_again(
    start: Start, tmp_path: Path, sqlite_url: str
) -> None:
    slow = "import os, time\nif os.path.exists('hang'): time.sleep(600)\n"
    worker = start(slow, "--boot-timeout", "4").ready(1)
    (tmp_path / "hang").touch()

    for pid in (worker.zygote(), *worker.job_children()):
        os.kill(pid, signal.SIGKILL)

    said = "the new zygote cannot load the app: importing it did not end within 4 s: it is at line 2 of "
    wait_until(lambda: said in worker.output(), 20)
    (tmp_path / "hang").unlink()
    with Queue(db_url=sqlite_url) as queue:
        assert queue.enqueue("hello").result(30) == "hello"
