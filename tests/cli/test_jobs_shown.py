"""Jobs and dead letters as the commands show them: arguments, results, and what became of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito import Queue
from tests.cli.conftest import Run

APP = """
from taskito import Queue

queue = Queue(default_retry=0)

@queue.task(name="login")
def login(user, password, note=None):
    if password != "hunter2":
        raise ValueError("wrong")
    return {"user": user, "session_token": "abc", "note": note}
"""


@pytest.fixture
def ask(taskito: Run, backend_url: str, project: Path) -> Run:
    (project / "loginapp.py").write_text(APP)
    return functools.partial(taskito, TASKITO_DB_URL=backend_url)


@pytest.fixture
def queue(backend_url: str) -> Iterator[Queue]:
    """What the app is, in this process, with a worker."""
    with Queue(db_url=backend_url) as queue:
        names: dict[str, object] = {}
        exec(APP.replace("Queue(", "given or Queue("), {"__name__": "loginapp", "given": queue}, names)
        with queue.embedded_worker(threads=1):
            yield queue


def dead_login(queue: Queue) -> str:
    job = queue.enqueue("login", ("ann", "guessed"), max_retries=0)
    with pytest.raises(Exception, match="wrong"):
        job.result(30)
    return job.id


def test_a_job_is_shown_with_its_arguments_and_its_result(ask: Run, queue: Queue) -> None:
    job = queue.enqueue("login", ("ann", "hunter2"), {"note": ["x" * 2000]})
    job.result(30)

    shown = json.loads(ask("jobs", "show", job.id, "--json", "--app", "loginapp:queue").stdout)
    text = ask("jobs", "show", job.id, "--app", "loginapp:queue").stdout
    [listed] = json.loads(ask("jobs", "list", "--json", "--app", "loginapp:queue").stdout)["jobs"]

    assert shown["args"] == listed["args"] == ["ann", "***"]
    assert shown["kwargs"] == {"note": ["x" * 500 + "… (2000 characters)"]}
    assert shown["result"] == {"user": "ann", "session_token": "***", "note": shown["kwargs"]["note"]}
    assert 'args             ["ann", "***"]\n' in text
    assert "… (2000 characters)" in text
    assert '"session_token": "***"' in text


def test_a_job_that_returned_nothing_says_so(ask: Run, queue: Queue) -> None:
    queue.task(name="quiet")(lambda: None)
    with queue.embedded_worker(threads=1):
        job = queue.enqueue("quiet")
        job.result(30)

    assert "result           null\n" in ask("jobs", "show", job.id).stdout


def test_a_dead_letter_is_shown_with_its_arguments(ask: Run, queue: Queue) -> None:
    job_id = dead_login(queue)

    shown = json.loads(ask("dead", "show", job_id, "--json", "--app", "loginapp:queue").stdout)
    text = ask("dead", "show", job_id, "--app", "loginapp:queue").stdout
    [listed] = json.loads(ask("dead", "list", "--json", "--app", "loginapp:queue").stdout)["letters"]

    assert (shown["job_id"], shown["reason"], shown["replays"]) == (job_id, "retries exhausted", [])
    assert shown["args"] == listed["args"] == ["ann", "***"]
    assert [error["message"] for error in shown["errors"]] == ["wrong"]
    assert 'args             ["ann", "***"]\n' in text
    assert text.count("ValueError: wrong") == 2  # as the error, and with the one traceback
    assert text.count("Traceback") == 1


def test_a_dead_job_that_was_retried_and_its_successor_lead_to_each_other(ask: Run, queue: Queue) -> None:
    job_id = dead_login(queue)

    done = ask("jobs", "retry", job_id)

    assert done.returncode == 0, done.stderr
    [new_id] = done.stdout.split()
    old, new = (json.loads(ask("jobs", "show", one, "--json").stdout) for one in (job_id, new_id))
    assert (old["replays"], new["replay_of"]) == ([new_id], job_id)
    assert f'replays          ["{new_id}"]\n' in ask("jobs", "show", job_id).stdout
    for command in (("dead", "show"), ("dead", "retry"), ("jobs", "retry")):
        again = ask(*command, job_id)
        assert again.returncode == 1
        assert f"it was run again, as job {new_id}" in again.stderr
