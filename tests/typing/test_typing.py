"""The public API as mypy --strict and pyright see it: same inferences, same refusals."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CODE = HERE / "users_code.py"


def lines_with_errors() -> set[int]:
    return {n for n, line in enumerate(CODE.read_text().splitlines(), 1) if line.endswith("# error")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody else's project: none of this repository's settings apply."""
    shutil.copy(CODE, tmp_path / "users_code.py")
    return tmp_path


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=110, check=False)


def test_mypy_strict_accepts_and_refuses_what_it_should(project: Path) -> None:
    done = run(
        *(sys.executable, "-m", "mypy", "--strict", "--python-executable", sys.executable),
        *("--cache-dir", str(project / "cache"), "--no-error-summary", "users_code.py"),
        cwd=project,
    )

    complaints = [line for line in done.stdout.splitlines() if ": error:" in line]
    found = {
        int(match[1]): line for line in complaints if (match := re.match(r"users_code\.py:(\d+):", line))
    }
    assert [line for line in complaints if not line.startswith("users_code.py:")] == []
    assert {number: line for number, line in found.items() if number not in lines_with_errors()} == {}
    assert lines_with_errors() - found.keys() == set(), done.stdout + done.stderr


def test_pyright_accepts_and_refuses_what_it_should(project: Path) -> None:
    (project / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "reportUnusedExpression": False})
    )

    done = run(
        *(sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "users_code.py"),
        cwd=project,
    )

    report = json.loads(done.stdout[done.stdout.index("{") :])
    found = {
        complaint["range"]["start"]["line"] + 1: complaint["message"]
        for complaint in report["generalDiagnostics"]
        if complaint["severity"] == "error"
    }
    assert {number: text for number, text in found.items() if number not in lines_with_errors()} == {}
    assert lines_with_errors() - found.keys() == set()
