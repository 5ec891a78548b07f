"""The command as users run it: a process of its own in a directory of its own."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskito import Queue

Run = Callable[..., subprocess.CompletedProcess[str]]

APP = """
from taskito import Queue

queue = Queue()
not_a_queue = 7

@queue.task
def add(a, b):
    return a + b

@queue.task(queue="mail")
def send(to):
    return to
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "taskito.cli.main", *arguments]


def environment(**variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TASKITO_")}
    # `python -m` would make the directory importable by itself; the installed script does not.
    return clean | {"PYTHONSAFEPATH": "1"} | variables


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with an app in myapp.py and nothing else."""
    (tmp_path / "myapp.py").write_text(APP)
    return tmp_path


@pytest.fixture
def taskito(project: Path) -> Run:
    """``taskito("info", "--json", TASKITO_APP="myapp:queue")``: run it there, wait, and get all it said."""

    def run(*arguments: str, cwd: Path = project, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=cwd,
            env=environment(**variables),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run


@pytest.fixture
def queue(backend_url: str) -> Iterator[Queue]:
    """In this process, on each store in turn."""
    with Queue(db_url=backend_url) as queue:
        yield queue


@pytest.fixture
def ask(taskito: Run, backend_url: str) -> Run:
    """``taskito`` on the store of ``queue``."""
    return functools.partial(taskito, TASKITO_DB_URL=backend_url)
