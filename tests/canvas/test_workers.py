"""A canvas and real workers: nothing of it lives in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from taskito import Queue, chain
from tests.faults.conftest import start_worker
from tests.faults.harness import Worker

__all__ = ["start_worker"]

HERE = Path(__file__).parent


def test_whoever_applied_it_may_go_home_and_no_killed_child_loses_a_step(
    backend_url: str, tmp_path: Path, start_worker: Callable[..., Worker]
) -> None:
    applied = subprocess.run(
        [sys.executable, HERE / "canvasapp.py"],
        env={**os.environ, "TASKITO_DB_URL": backend_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    killed = tmp_path / "killed"
    start_worker(procs=2, app="canvasapp:queue", PYTHONPATH=os.fspath(HERE), KILLED=os.fspath(killed))

    with Queue(db_url=backend_url) as queue:
        job = queue.get_job(applied.stdout.strip())
        assert job is not None
        assert job.result(60) == sum(number * number for number in range(20))
    assert killed.exists()


def test_each_step_begins_when_the_one_before_has_ended_and_not_at_the_next_look(
    backend_url: str, start_worker: Callable[..., Worker]
) -> None:
    start_worker(procs=1, app="canvasapp:queue", PYTHONPATH=os.fspath(HERE))

    with Queue(db_url=backend_url) as queue:
        add = queue.task(name="canvasapp.add")(lambda number, more: number + more)
        add.delay(0, 0).result(60)
        steps = chain(add.s(0, 1), *(add.s(1) for _ in range(19))).apply()

        # A worker that nothing wakes looks every second on SQLite, and every five on PostgreSQL.
        assert steps.result(10) == 20
