"""What only Linux has may make things better, and nothing may need it."""

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

OTHER = Path(__file__).with_name("other_system")
IMPORT_ALL = """
import importlib, pkgutil, select, sys
import taskito, taskito_core, taskito_postgres, taskito_sqlite
assert sys.platform == "darwin" and not hasattr(select, "epoll")
for package in (taskito, taskito_core, taskito_postgres, taskito_sqlite):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def test_s7_every_module_can_be_imported_without_what_only_linux_has() -> None:
    subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        env={**os.environ, "PYTHONPATH": os.fspath(OTHER)},
        check=True,
        timeout=60,
    )


def test_s7_a_worker_runs_jobs_without_what_only_linux_has(
    backend_url: str, start_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere.py").write_text(
        "import sys\n"
        "from taskito import Queue\n"
        "queue = Queue()\n"
        "@queue.task\n"
        "def system() -> str:\n"
        "    return sys.platform\n"
    )
    path = os.pathsep.join([os.fspath(OTHER), os.fspath(tmp_path)])
    start_worker(procs=2, app="elsewhere:queue", PYTHONPATH=path)

    with Queue(db_url=backend_url) as queue:
        jobs = [queue.enqueue("elsewhere.system") for _ in range(20)]
        assert [job.result(60) for job in jobs] == ["darwin"] * 20
