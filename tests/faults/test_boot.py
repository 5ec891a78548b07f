"""Starting: an app that does not import, hooks that fail, threads and connections made at import."""

from __future__ import annotations

import re
import sqlite3
import textwrap
import time
from pathlib import Path

import pytest

from taskito import Queue
from tests.faults.harness import Worker, wait_until

TASKS = """
from taskito import Queue
queue = Queue()

@queue.task
def hello():
    return "hello"
"""


def write_app(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.py").write_text(textwrap.dedent(text))


def hello(queue) -> str:
    return queue.enqueue("bootapp.hello").result(40)


@pytest.fixture
def start_app(start_worker, tmp_path):
    """Start a worker on an app given as text."""

    def start(text: str, *arguments: str, procs: int = 2, env: dict[str, str] | None = None) -> Worker:
        write_app(tmp_path, "bootapp", text)
        return start_worker("--app", "bootapp:queue", *arguments, procs=procs, **(env or {}))

    return start


def test_an_app_that_does_not_import_ends_the_worker_with_its_traceback_once(start_app):
    worker = start_app("import nothing_like_this\n", procs=0)

    assert worker.wait(20) == 3
    output = worker.output()
    assert output.count("ModuleNotFoundError: No module named 'nothing_like_this'") == 1
    assert "bootapp.py" in output
    worker.nothing_left()


@pytest.mark.parametrize("method", ["zygote", "spawn"])
@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("nosuchmodule:queue", "nosuchmodule"),
        ("faultapp:nosuchqueue", "nosuchqueue"),
        ("faultapp", "module:attribute|MODULE:QUEUE|:"),
        ("faultapp:note", "Queue"),
    ],
)
def test_a_wrong_app_is_named_and_nothing_is_started(start_worker, app, words, method):
    worker = start_worker("--app", app, "--start-method", method, procs=0)

    assert worker.wait(20) == 3
    assert re.search(words, worker.output())
    assert "Traceback" not in worker.output()
    worker.nothing_left()


def test_an_app_without_tasks_is_told_what_was_imported(start_app, tmp_path):
    write_app(tmp_path, "helpers", "value = 1\n")
    worker = start_app("import helpers\nfrom taskito import Queue\nqueue = Queue()\n", procs=0)

    assert worker.wait(20) == 3
    assert "no tasks" in worker.output()
    assert "helpers" in worker.output()


ALIKE = ("asyncio", "email", "json", "logging", "queue", "signal", "types")


@pytest.mark.parametrize("method", ["zygote", "spawn"])
def test_files_called_like_standard_modules_harm_no_worker_and_are_named(
    start_app, tmp_path, backend_url, method
):
    for name in ALIKE:
        write_app(tmp_path, name, "1 / 0")
    text = TASKS + "\n@queue.task\nasync def later():\n    return 'later'\n"
    worker = start_app(text, "--start-method", method, env={"PYTHONPATH": ""})

    with Queue(db_url=backend_url) as queue:
        assert hello(queue) == "hello"
        assert queue.enqueue("bootapp.later").result(40) == "later"
    for name in ALIKE:
        said = f"{tmp_path}/{name}.py has the name of Python's own module '{name}'"
        assert worker.output().count(said) == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [("email", "from email import send_mail"), ("json", "import json.codes"), ("pdb", "import pdb")],
)
def test_an_app_that_gets_the_wrong_one_of_two_modules_is_told_of_the_file(start_app, tmp_path, name, line):
    write_app(tmp_path, name, "from bootapp import nothing")
    worker = start_app(line + TASKS, procs=0, env={"PYTHONPATH": ""})

    assert worker.wait(20) == 3
    refused = worker.output().split("Traceback")[1]
    assert f"{tmp_path}/{name}.py has the name of Python's own module '{name}'" in refused
    assert "rename the file" in refused


def test_an_app_called_like_a_standard_module_is_told_so(start_worker, tmp_path):
    write_app(tmp_path, "secrets", TASKS)
    worker = start_worker(app="secrets:queue", procs=0, PYTHONPATH="")

    assert worker.wait(20) == 3
    assert (
        f"{tmp_path}/secrets.py is not imported, because Python has a module of its name" in worker.output()
    )


def test_a_function_of_the_app_may_make_its_queue(start_worker, tmp_path, backend_url):
    made = TASKS.replace("\n", "\n    ")
    write_app(tmp_path, "bootapp", f"def create():{made}\n    return queue\n")
    worker = start_worker(app="bootapp:create()", procs=1)

    with Queue(db_url=backend_url) as queue:
        assert queue.enqueue("bootapp.create.<locals>.hello").result(40) == "hello"
        assert [one.app for one in queue.workers()] == ["bootapp:create()"]
    assert not worker.exited()


HOOK = """
import os, time
from taskito import Queue
from taskito_core import hookimpl
queue = Queue()

@queue.task
def hello():
    return "hello"

class Hooks:
    @hookimpl
    def taskito_child_started(self):
        with open("boots", "a") as file:
            file.write("x")
        {body}

queue.plugins.register(Hooks(), "hooks")
"""


def boots(directory: Path) -> int:
    path = directory / "boots"
    return len(path.read_text()) if path.exists() else 0


def test_a_hook_that_always_fails_is_tried_ever_more_slowly(start_app, tmp_path):
    worker = start_app(HOOK.format(body='raise RuntimeError("no")'), procs=0)
    wait_until(lambda: boots(tmp_path) >= 4, 30)

    began, before = time.monotonic(), boots(tmp_path)
    wait_until(lambda: time.monotonic() - began > 3, 10)

    assert boots(tmp_path) - before <= 6, "the delays grow"
    assert not worker.exited()
    assert "RuntimeError: no" in worker.output()


def test_a_hook_that_fails_three_times_is_forgiven(start_app, tmp_path, app):
    body = 'if os.path.getsize("boots") <= 3: raise RuntimeError("not yet")'
    start_app(HOOK.format(body=body))

    assert hello(app.queue) == "hello"


def test_a_hook_that_hangs_is_ended_with_its_stack_in_the_log(start_app, tmp_path, app):
    body = 'if os.path.getsize("boots") == 1: time.sleep(600)'
    worker = start_app(HOOK.format(body=body), "--boot-timeout", "3", procs=1)

    assert hello(app.queue) == "hello"
    assert "was not ready within 3 s" in worker.output()
    assert "taskito_child_started" in worker.output(), "its stack"


def test_a_thread_started_at_import_means_spawned_children(start_app, app):
    text = (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), name='pump', daemon=True).start()\n" + TASKS
    )
    worker = start_app(text)

    assert hello(app.queue) == "hello"
    assert "pump" in worker.output()


def test_a_database_opened_at_import_is_warned_of_and_survives(start_app, tmp_path, app):
    text = "import sqlite3\nmine = sqlite3.connect('mine.db')\nmine.execute('create table t (x)')\n" + TASKS
    worker = start_app(text)

    assert hello(app.queue) == "hello"
    assert "mine.db" in worker.output() or re.search(r"descriptor|fd", worker.output())
    connection = sqlite3.connect(tmp_path / "mine.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_spawned_children_run_jobs_too(start_worker, app):
    worker = start_worker("--start-method", "spawn")

    assert app.add.delay(1, 2).result(30) == 3
    assert "zygote" not in worker.output()
