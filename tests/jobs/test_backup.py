"""A copy taken while jobs run, with the tools that come with the database, finishes all of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from taskito import JobStatus, Queue
from tests.faults.harness import TASKITO

from .conftest import LONG

JOBS = 200


@pytest.fixture
def copy(request: pytest.FixtureRequest, backend_url: str, tmp_path: Path):
    """``copy(url, directory)``: the URL of a store made from a backup of this one."""
    return _copy_file if backend_url.startswith("sqlite") else _dump_for(request, tmp_path)


def _copy_file(url: str, directory: Path) -> str:
    target = directory / "restored.db"
    command = [str(TASKITO), "backup", str(target)]
    subprocess.run(command, env=os.environ | {"TASKITO_DB_URL": url}, check=True, cwd=directory)
    return f"sqlite:///{target}"


def _dump_for(request: pytest.FixtureRequest, tmp_path: Path):
    new_url = request.getfixturevalue("new_postgres_url")
    if shutil.which("pg_dump") is None or shutil.which("psql") is None:
        pytest.skip("pg_dump and psql are not on the PATH")

    def dump(url: str, directory: Path) -> str:
        script = directory / "dump.sql"
        with script.open("wb") as out:
            subprocess.run(["pg_dump", "-n", "taskito", url], stdout=out, check=True)
        target = new_url()
        command = ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script), target]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return target

    return dump


@pytest.mark.faults
def test_every_job_of_a_copy_taken_under_load_finishes(app, start, copy, backend_url, tmp_path):
    jobs = app.nap.map([0.02] * JOBS)
    worker = start(procs=2)
    worker.started(JOBS // 4)

    restored = copy(backend_url, tmp_path)

    worker.signal(signal.SIGINT)
    assert worker.wait() == 0
    with Queue(db_url=restored) as queue:
        copies = [queue.get_job(job.id) for job in jobs]
        done = [one for one in copies if one.status is JobStatus.COMPLETE]
        assert 0 < len(done) < JOBS
        start(procs=2, url=restored)
        assert [one.result(LONG) for one in copies] == ["rested"] * JOBS
