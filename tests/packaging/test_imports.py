"""What importing costs and brings along, and that plugins use documented names only."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import taskito_core

ROOT = Path(__file__).resolve().parents[2]
#: All but the kit, which tests the core from inside.
PLUGINS = sorted(set((ROOT / "plugins").glob("taskito_*")) - {ROOT / "plugins/taskito_testing"})
FORBIDDEN = {
    *("asyncio", "sqlite3", "psycopg", "psycopg_pool", "django", "flask", "starlette", "uvicorn", "jinja2"),
    *("multiprocessing", "pickle", "ssl", "http.server", "pytest", "click"),
}


def modules_after(program: str) -> set[str]:
    """The modules a fresh interpreter has loaded after ``program``, which the interpreter had not before."""
    report = "import json, sys; before = set(sys.modules)\n" + program
    report += "\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ["taskito", "taskito_core"])
def test_importing_brings_no_driver_no_event_loop_and_no_framework(module: str) -> None:
    assert modules_after(f"import {module}") & FORBIDDEN == set()


def test_a_queue_with_its_plugins_brings_no_driver_either() -> None:
    program = """
from taskito import Queue
Queue(), Queue(backend="postgres", db_url="postgresql://h/d")
"""
    assert modules_after(program) & (FORBIDDEN - {"pickle"}) == set()


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_plugin_imports_only_documented_names_of_the_core(plugin: Path) -> None:
    """From ``taskito_core`` itself, which is what its authors may rely on; not from its submodules."""
    strays = [
        f"{file.relative_to(ROOT)}:{line}: {what}"
        for file in sorted(plugin.rglob("*.py"))
        for line, what in _core_imports(file)
        if what not in {f"taskito_core.{name}" for name in taskito_core.__all__}
    ]

    assert strays == []


def _core_imports(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in _OURS:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] in _OURS
            )


_OURS = {"taskito", "taskito_core"}


def test_layers_and_borders_hold() -> None:
    """The contracts are in pyproject.toml; ``make lint`` runs the same command."""
    command = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stdout
