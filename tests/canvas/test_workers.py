"""A canvas and real workers: nothing of it lives in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from taskito import Queue
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
