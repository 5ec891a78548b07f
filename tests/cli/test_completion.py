"""Names that a real bash offers after TAB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment

APP = """
print("noise of the import")
from taskito import Queue

queue = Queue()

@queue.task
def add(a, b): ...

@queue.task(queue="mail")
def send(to): ...

@queue.periodic("0 9 * * *")
def report(): ...
"""
SOURCE = 'source <(_TASKITO_COMPLETE=bash_source taskito); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
PRINT = '_taskito_completion taskito; printf "%s\\n" "${COMPREPLY[@]}"'
APP_WORDS = ["--app", "myapp", ":", "queue"]  #: as bash takes myapp:queue apart


def offered(directory: Path, *words: str, **variables: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", SOURCE + PRINT, "bash", "taskito", *words],
        cwd=directory,
        env=environment(**variables)
        | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "myapp.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["enqueue", *APP_WORDS, "a"], ["add"]),
        (["enqueue", *APP_WORDS, "myapp.s"], ["myapp.send"]),
        (
            ["enqueue", *APP_WORDS, ""],
            [*("add", "myapp.add", "myapp.report", "myapp.send"), "report", "send"],
        ),
        (["jobs", "list", *APP_WORDS, "--task", "myapp.a"], ["myapp.add"]),
        (["logs", *APP_WORDS, "--task", "se"], ["send"]),
        (["worker", *APP_WORDS, "--queues", "default,m"], ["default,mail"]),
        (["queues", "pause", *APP_WORDS, "m"], ["mail"]),
        (["cron", "next", *APP_WORDS, ""], ["myapp.report"]),
        (["enq"], ["enqueue"]),
    ],
)
def test_names_of_tasks_and_queues_are_completed_from_the_app(
    directory: Path, words: list[str], names: list[str]
) -> None:
    assert offered(directory, *words) == names


def test_the_app_may_be_named_by_a_variable_or_in_pyproject(directory: Path) -> None:
    assert offered(directory, "enqueue", "a", TASKITO_APP="myapp:queue") == ["add"]
    (directory / "pyproject.toml").write_text('[tool.taskito]\napp = "myapp:queue"\n')
    assert offered(directory, "enqueue", "a") == ["add"]


def test_an_app_that_does_not_import_offers_nothing(directory: Path) -> None:
    (directory / "myapp.py").write_text("1 / 0")

    assert offered(directory, "enqueue", *APP_WORDS, "a") == []
