"""The supervisor stays lean: no code of the user's, nor of the client, is imported in it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import start_worker
from tests.faults.harness import wait_until
from tests.faults.test_regressions import start_beside_noisy

__all__ = ["start_worker"]

#: Written by a plugin inside of a supervisor that has registered.
MODULES = 'import sys; open("modules", "w").write(" ".join(sorted(sys.modules)))'
#: What no supervisor imports.
FOREIGN = ("taskito.client", "taskito.worker.child", "bootapp", "asyncio", "pickle", "multiprocessing")


def foreign(modules: list[str]) -> list[str]:
    return [name for name in modules if any(f"{name}.".startswith(f"{foreign}.") for foreign in FOREIGN)]


def test_importing_the_supervisor_brings_no_client_and_nothing_of_a_child() -> None:
    program = "import sys, taskito.worker.supervisor.main; print(*sorted(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert foreign(done.stdout.split()) == []


@pytest.mark.parametrize("backend_url", ["sqlite"], indirect=True)
def test_a_running_supervisor_has_imported_neither_the_app_nor_the_client(
    start_worker, tmp_path: Path
) -> None:
    worker = start_beside_noisy(start_worker, tmp_path, MODULES)
    wait_until(lambda: worker.exited() or (tmp_path / "noise").exists(), 60, "the plugin was called")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.output()

    modules = (tmp_path / "modules").read_text().split()

    assert "taskito.worker.supervisor.loop" in modules
    assert foreign(modules) == []
