"""Which of Python's modules an app's folder cannot keep from taskito."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
import taskito.client.child_process, taskito.client.load_app
from taskito.config.import_guard import LATE

for name in LATE:
    importlib.import_module(name)
before = {name.partition(".")[0] for name in sys.modules}
for package in ("taskito", "taskito_core", "taskito_sqlite", "taskito_postgres"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if ".cli" not in module.name and "__main__" not in module.name:
            importlib.import_module(module.name)
import croniter, psycopg, psycopg_pool
after = {name.partition(".")[0] for name in sys.modules}
print(*sorted(name for name in (after - before) & sys.stdlib_module_names if not name.startswith("_")))
"""


def test_what_taskito_and_its_libraries_need_is_imported_before_the_app() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stderr == ""
    assert done.stdout.split() == ["sqlite3"], "which only the plugin of that name needs"
