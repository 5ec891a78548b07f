"""``taskito wait``: returns when jobs have ended, and shows how far they are."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito import Queue, group
from tests.cli.conftest import Run, command, environment


@pytest.fixture
def queue(backend_url: str) -> Iterator[Queue]:
    with Queue(db_url=backend_url, default_retry=0) as queue:

        @queue.task(name="half", queue="halves")
        def half(number: int) -> float:
            if number % 2:
                raise ValueError("odd")
            return number / 2

        yield queue


@pytest.mark.parametrize("by", ["queue", "tag", "group"])
def test_jobs_are_waited_for_by_queue_tag_and_group(ask: Run, queue: Queue, by: str) -> None:
    half = queue.tasks["half"]
    found = group(half.s(number).set(tags=["batch"]) for number in (2, 4, 6)).apply()
    words = {"queue": "halves", "tag": "batch", "group": found.id}

    with queue.embedded_worker(threads=1):
        done = ask("wait", f"--{by}", str(words[by]), "--json", "--timeout", "30")

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["failed"] == 0
    # Of a queue, what had ended before does not count.
    assert answer["ended"] == 3 if by == "group" else answer["ended"] <= 3
    assert {job.status for job in found.jobs} == {"complete"}
    assert " jobs" in done.stderr


def test_failed_jobs_are_counted_and_make_the_exit_code_1(ask: Run, queue: Queue) -> None:
    found = group(queue.tasks["half"].s(number) for number in (1, 2, 3)).apply()
    with queue.embedded_worker(threads=1):
        found.wait(30)

    done = ask("wait", "--group", str(found.id))

    assert done.returncode == 1
    assert done.stdout.startswith("3 jobs ended, 2 of them failed, in ")
    assert done.stderr == "3 of 3 jobs, 2 failed\n"


def test_a_wait_that_takes_too_long_is_one_sentence(ask: Run, queue: Queue) -> None:
    queue.tasks["half"].delay(2)

    done = ask("wait", "--queue", "halves", "--timeout", "0.2")

    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: 1 job has not ended after 0.2 seconds\n" in done.stderr
    assert "0 of 1 job, 0.0/s\n" in done.stderr


def test_what_is_wrong_is_said(ask: Run, queue: Queue) -> None:
    queue.enqueue("t")

    assert "one of --queue, --tag and --group" in ask("wait").stderr
    assert ask("wait", "--queue", "a", "--tag", "b").returncode == 2
    unknown = ask("wait", "--group", "nosuch")
    assert unknown.returncode == 1
    assert "there is no group 'nosuch'" in unknown.stderr
    assert ask("wait", "--tag", "nosuch").stdout.startswith("0 jobs ended")


def in_terminal(arguments: list[str], directory: Path, **variables: str) -> str:
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        cwd=directory,
        env=environment(TERM="xterm", COLUMNS="120", **variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with open(ours, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(4096):
                shown += piece
        except OSError:
            pass  # Linux says so when the last process has closed its side.
    process.wait(30)
    return shown.decode()


@pytest.mark.parametrize("has_rich", [True, False])
def test_a_person_sees_a_bar_if_rich_is_installed(sqlite_url: str, project: Path, has_rich: bool) -> None:
    with Queue(db_url=sqlite_url) as queue:
        found = group(queue.task(name="t")(lambda: 1).s() for _ in range(2)).apply()
        with queue.embedded_worker(threads=1):
            found.wait(30)
    if not has_rich:
        (project / "rich.py").write_text("raise ImportError('not installed')")
    variables = {"TASKITO_DB_URL": sqlite_url, "PYTHONPATH": str(project)}

    shown = in_terminal(["wait", "--group", str(found.id)], project, **variables)

    assert "2 of 2 jobs" in shown
    assert ("━━━" in shown) == has_rich
    assert "2 jobs ended, 0 of them failed" in shown
