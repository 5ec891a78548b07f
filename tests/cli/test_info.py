"""``taskito info``: looks, and changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito_core.storage_worker import WorkerInfo
from taskito_testing import make_job, open_storage
from tests.cli.conftest import Run, command, environment


@pytest.fixture
def filled(backend_url: str) -> str:
    """A store with three jobs on two queues and a worker."""
    storage = open_storage(backend_url)
    storage.enqueue([make_job(), make_job(), make_job(queue="mail")])
    worker = WorkerInfo(
        id="w1", host="here", pid=7, app="a:q", queues=("mail",), tasks=("t",), procs=3, version="0"
    )
    storage.register(worker)
    storage.close()
    return backend_url


def test_statistics_workers_location_and_version_are_shown(filled: str, taskito: Run) -> None:
    done = taskito("info", TASKITO_DB_URL=filled)

    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["queue", "pending", "running", "complete", "failed", "dead", "cancelled"] in lines
    assert ["default", "2", "0", "0", "0", "0", "0"] in lines
    assert ["mail", "1", "0", "0", "0", "0", "0"] in lines
    assert ["total", "3", "0", "0", "0", "0", "0"] in lines
    assert any(line[:3] == ["w1", "alive", "here"] for line in lines)
    assert done.stderr == ""


def test_json_holds_the_same_for_programs(filled: str, taskito: Run) -> None:
    found = json.loads(taskito("info", "--json", TASKITO_DB_URL=filled).stdout)

    assert found["queues"]["default"]["pending"] == 2
    assert found["capped"] is False
    assert found["store"]["schema_version"] == found["store"]["newest_version"] >= 1
    [worker] = found["workers"]
    assert (worker["id"], worker["procs"], worker["queues"]) == ("w1", 3, ["mail"])


def test_the_app_says_where_its_store_is(taskito: Run, project: Path) -> None:
    found = json.loads(taskito("info", "--app", "myapp:queue", "--json").stdout)

    assert str(project / ".taskito" / "taskito.db") in found["store"]["location"]


def test_looking_at_a_store_that_is_not_there_yet_creates_no_table(backend_url: str, taskito: Run) -> None:
    done = taskito("info", TASKITO_DB_URL=backend_url)

    assert done.returncode == 0, done.stderr
    assert "no database here" in done.stdout
    assert "taskito migrate" in done.stdout
    assert taskito("migrate", "--check", TASKITO_DB_URL=backend_url).returncode == 1


def test_in_another_directory_there_is_no_database_and_the_path_is_said(taskito: Run, project: Path) -> None:
    assert taskito("enqueue", "t").returncode == 0
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()

    done = taskito("info", cwd=elsewhere)

    first, second, *_ = done.stdout.splitlines()
    assert first.startswith(f"store    sqlite at {elsewhere}/.taskito/taskito.db ")
    assert second.strip() == "no database here: nothing of taskito is there yet"
    refused = taskito("jobs", "list", cwd=elsewhere)
    assert f"there is no database at {elsewhere}/.taskito/taskito.db" in refused.stderr
    assert list(elsewhere.iterdir()) == [], "looking makes nothing"


def test_the_password_of_the_store_is_masked(postgres_url: str, taskito: Run) -> None:
    scheme, _, rest = postgres_url.partition("://")
    user, _, place = rest.rpartition("@")
    with_password = f"{scheme}://{user.partition(':')[0] or 'postgres'}:hunter2@{place}"

    done = taskito("info", TASKITO_DB_URL=with_password)

    assert "hunter2" not in done.stdout + done.stderr
    assert "***" in done.stdout + done.stderr


def test_watching_goes_on_until_ctrl_c_and_that_is_no_error(
    sqlite_url: str, project: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    storage = open_storage(sqlite_url)
    storage.enqueue([make_job()])
    output = tmp_path / "output"
    with output.open("wb") as file:
        watch = subprocess.Popen(
            command("info", "--watch", "--interval", "0.1", "--json"),
            cwd=project,
            env=environment(TASKITO_DB_URL=sqlite_url),
            stdout=file,
            stderr=subprocess.PIPE,
        )
    try:
        wait_until(lambda: output.read_text().count('"pending": 1') >= 2)
        storage.enqueue([make_job()])
        wait_until(lambda: '"pending": 2' in output.read_text())
        os.kill(watch.pid, signal.SIGINT)
        _, errors = watch.communicate(timeout=30)
    finally:
        watch.kill()
        watch.wait()
        storage.close()

    assert (watch.returncode, errors) == (0, b"")
    documents = [json.loads(line) for line in output.read_text().splitlines()]
    assert documents[0]["since_start"] == {
        "ended": 0,
        "failed": 0,
        "live": 1,
        "rate": 0.0,
        "seconds_left": None,
    }


def test_watching_shows_how_far_the_jobs_are(
    sqlite_url: str, project: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    storage = open_storage(sqlite_url)
    storage.enqueue([make_job(), make_job(id="gone")])
    output = tmp_path / "output"
    with output.open("wb") as file:
        watch = subprocess.Popen(
            command("info", "--watch", "--interval", "0.1"),
            cwd=project,
            env=environment(TASKITO_DB_URL=sqlite_url),
            stdout=file,
        )
    try:
        wait_until(lambda: "\n0 of 2 jobs, 0.0/s\n" in output.read_text())
        storage.cancel(["gone"], "no")
        wait_until(lambda: "\n1 of 2 jobs, 1 failed, " in output.read_text())
    finally:
        watch.kill()
        watch.wait()
        storage.close()
