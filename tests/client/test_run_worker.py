"""run_worker on the Queue: in threads here, or as the command in processes; and asking it to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskito import ConfigError, Queue, TaskitoError
from taskito.worker.subprocess_worker import command

APP = """
import json, os, sys, threading
from taskito import Queue
queue = Queue("jobs.db")

@queue.task
def where():
    return os.getpid()

if __name__ == "__main__":
    queue.run_worker(**json.loads(sys.argv[1]))
    print("returned", flush=True)
"""


PREFORK = {"pool": "prefork", "app": "prefork_app:queue", "procs": 1}


@contextmanager
def running(queue: Queue, wait_until: Any, **options: Any) -> Iterator[threading.Thread]:
    """A worker in a thread of this process, stopped at the end."""
    thread = threading.Thread(target=queue.run_worker, kwargs=options)
    thread.start()
    try:
        wait_until(lambda: len(queue.running))
        yield thread
    finally:
        queue.request_shutdown()
        thread.join(60)
        assert not thread.is_alive()


def test_threads_run_tasks_that_are_defined_in_a_function(queue: Queue, wait_until: Any) -> None:
    @queue.task
    def where(x: int) -> tuple[int, int]:
        return os.getpid(), x

    with running(queue, wait_until, threads=2):
        jobs = where.map(range(20))
        assert [job.result(60) for job in jobs] == [(os.getpid(), x) for x in range(20)]


def test_only_the_named_queues_are_served(queue: Queue, wait_until: Any) -> None:
    task = queue.task(name="t")(lambda: 1)

    with running(queue, wait_until, queues=["a"], threads=1):
        other = task.using(queue="b").delay()
        assert task.using(queue="a").delay().result(60) == 1
        assert other.status == "pending"


def test_a_worker_beside_an_event_loop_stops_when_it_is_cancelled(queue: Queue) -> None:
    task = queue.task(name="t")(lambda: 1)

    async def main() -> None:
        worker = asyncio.create_task(queue.arun_worker(threads=1))
        job = await task.adelay()
        assert await job.aresult(60) == 1
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker

    asyncio.run(main())


def test_stopping_without_a_worker_does_nothing(tmp_path: Path) -> None:
    Queue(tmp_path / "x.db").request_shutdown()


def test_every_worker_of_the_queue_is_asked_to_stop(tmp_path: Path) -> None:
    class Worker:
        asked = 0

        def __init__(self, *steps: Callable[[], None]) -> None:
            self.steps = steps

        def run(self) -> None:
            for step in self.steps:
                step()

        def request_shutdown(self) -> None:
            self.asked += 1

    queue = Queue(tmp_path / "x.db")
    one = Worker(queue.request_shutdown)
    two = Worker(lambda: queue.running.run(one), queue.request_shutdown)
    queue.running.run(two)
    queue.request_shutdown()

    assert (one.asked, two.asked) == (1, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pool": "greenlets"},
        {"pool": "prefork"},
        {"pool": "prefork", "app": "a:b", "threads": 2},
        {"pool": "prefork", "app": "a:b", "procs": 0},
        {"procs": 2},
        {"app": "a:b"},
        {"threads": 0},
        {"threads": True},
        {"queues": "mail"},
        {"queues": ["a,b"]},
        {"queues": []},
        {"graceful_timeout": -1},
        {"boot_timeout": float("nan")},
    ],
)
def test_ways_of_running_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Queue(tmp_path / "x.db").run_worker(**wrong)


def test_the_command_line_names_the_app_and_no_secret() -> None:
    words = command("app:queue", ("a", "b"), 3, 12.5, 60)

    assert words[1:] == [
        *("-P", "-m", "taskito", "worker", "--app", "app:queue"),
        *("--graceful-timeout", "12.5", "--boot-timeout", "60", "--procs", "3", "--queues", "a,b"),
    ]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "prefork_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_prefork_runs_the_tasks_in_another_process(app: Path, wait_until: Any) -> None:
    with Queue(app / "jobs.db") as queue:
        with running(queue, wait_until, pool="prefork", app="prefork_app:queue", procs=1):
            assert queue.enqueue("prefork_app.where").result(60) != os.getpid()
        assert len(queue.running) == 0


@pytest.fixture
def background() -> Iterator[None]:
    """Programs that the test starts ignore both signals until they see to them themselves."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("options", [PREFORK, {"threads": 1}], ids=["prefork", "threads"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_the_caller_stops_its_worker(
    app: Path, number: signal.Signals, options: dict[str, object]
) -> None:
    stops(app, number, options)


@pytest.mark.usefixtures("background")
@pytest.mark.parametrize("options", [PREFORK, {"threads": 1}], ids=["prefork", "threads"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_was_ignored_when_the_program_began_stops_it_too(
    app: Path, number: signal.Signals, options: dict[str, object]
) -> None:
    stops(app, number, options)


@pytest.mark.usefixtures("background")
def test_the_command_in_the_background_stops_on_sigint(app: Path) -> None:
    words = [sys.executable, "-m", "taskito.cli.main", "worker", "--app", "prefork_app:queue", "--procs", "1"]

    assert end_of(app, words, signal.SIGINT) == 0


def test_the_callers_own_handlers_are_back_when_the_worker_has_ended(app: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    queue = Queue(app / "jobs.db")
    job = queue.enqueue("prefork_app.where")

    def interrupt() -> None:
        job.result(60)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with queue:
            queue.run_worker(**PREFORK)  # type: ignore[call-overload]
            assert heard == []
            signal.raise_signal(signal.SIGINT)
            assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join(60)


def stops(app: Path, number: signal.Signals, options: dict[str, object]) -> None:
    assert end_of(app, [sys.executable, "prefork_app.py", json.dumps(options)], number) == 0
    assert "returned" in (app / "log").read_text()


def end_of(app: Path, words: list[str], number: signal.Signals) -> int:
    """The exit code of a program that was sent this signal when a job had run in it."""
    with Queue(app / "jobs.db") as queue, (app / "log").open("wb") as log:
        program = subprocess.Popen(words, stdout=log, stderr=log)
        job = queue.enqueue("prefork_app.where")
        try:
            job.result(60)
            program.send_signal(number)
            return program.wait(60)
        finally:
            program.kill()
            program.wait()


def test_a_worker_that_fails_is_an_error(app: Path) -> None:
    with pytest.raises(TaskitoError, match=r"worker of 'nowhere:queue' ended with exit code [1-9]"):
        Queue(app / "jobs.db").run_worker(pool="prefork", app="nowhere:queue", procs=1)
