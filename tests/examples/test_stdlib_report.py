"""`make demo` end to end: the program, the worker it starts, and the files that are no Python."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Measure = Callable[[str], dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "stdlib_report"
STDLIB = Path(sysconfig.get_path("stdlib"))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Real modules, two files that do not parse, and one that does not belong to the library."""
    root = tmp_path / "library"
    (root / "site-packages").mkdir(parents=True)
    for name in ("ast.py", "bisect.py", "heapq.py", "json/decoder.py", "shlex.py", "textwrap.py"):
        shutil.copy(STDLIB / name, root / name.replace("/", "_"))
    (root / "broken.py").write_text("def half(:\n")
    (root / "latin.py").write_bytes(b"name = '\xe9'\n")
    (root / "site-packages" / "other.py").write_text("x = 1\n")
    return root


def run_demo(root: Path, backend_url: str) -> subprocess.CompletedProcess[str]:
    """The program as in a pipe, where the width of the terminal is not known."""
    backend = "sqlite" if backend_url.startswith("sqlite") else "postgres"
    environment = {**os.environ, "TASKITO_DB_URL": backend_url}
    environment.pop("COLUMNS", None)
    return subprocess.run(
        [sys.executable, str(DEMO / "demo.py"), "--backend", backend, "--root", str(root), "--procs", "2"],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_demo_measures_real_modules_and_buries_what_does_not_parse(library: Path, backend_url: str) -> None:
    outcome = run_demo(library, backend_url)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "enqueued 8 files" in outcome.stdout
    assert "ast.py" in outcome.stdout
    for name in ("broken.py", "latin.py"):
        [letter] = [line.split() for line in outcome.stdout.splitlines() if name in line.split()]
        assert letter[1:3] == ["1", "SyntaxError:"], "a line per dead letter, tried once"
    assert "exit code 0" in outcome.stdout
    assert "both measured the same" in outcome.stdout
    assert "\x1b" not in outcome.stdout, "escape codes in a file"


@pytest.fixture(scope="module")
def measure() -> Measure:
    return runpy.run_path(str(DEMO / "measure.py"))["measure"]


def test_measure_counts_decisions_functions_and_blocks(measure: Measure, tmp_path: Path) -> None:
    source = tmp_path / "example.py"
    source.write_text(
        "class A:\n"
        "    def f(self, x):\n"
        "        if x and self or x is None:\n"
        "            for y in x:\n"
        "                pass\n"
        "        elif x == 2:\n"
        "            return [z for z in x if z]\n"
        "        return lambda: 0\n"
    )

    found = measure(str(source))

    # one for the module, f, if, and, or, for, elif, comprehension, its if, lambda
    assert found["complexity"] == 10
    assert (found["lines"], found["functions"], found["classes"]) == (8, 1, 1)
    # class, def, if, for: an elif is no deeper than its if
    assert found["nesting"] == 4


def test_measure_survives_expressions_deeper_than_the_stack(measure: Measure, tmp_path: Path) -> None:
    source = tmp_path / "deep.py"
    source.write_text("x = " + "+".join(["1"] * 900) + "\n")

    assert measure(str(source))["complexity"] == 1
