"""Every Python block of every page runs, in the order of the page, in a directory of its own.

A block whose first line is ``# name.py`` is written to that file. If a page writes ``app.py`` a
worker serves it while the other blocks run, as the page's reader would have it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import SHOW_FORKS, THREADS_AT_A_FORK
from tools import documents

#: As in ``pyproject.toml``.
WARNINGS = f"error{SHOW_FORKS}"
PAGES = {page: text for page, text in documents.pages().items() if documents.blocks(page, text, "python")}


@contextlib.contextmanager
def worker_of(directory: Path) -> Iterator[None]:
    """The worker that the page tells its reader to start; it must end with exit code 0."""
    command = [str(Path(sys.executable).with_name("taskito")), "worker", "--app", "app:queue", "--procs", "2"]
    log = directory / "worker.log"
    environment = {**os.environ, "PYTHONWARNINGS": WARNINGS}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert code == 0, log.read_text()
    assert THREADS_AT_A_FORK not in log.read_text(), log.read_text()


def script_of(page: str, text: str, directory: Path) -> str:
    """All blocks of a page as one program; line numbers in its tracebacks are those of the page."""
    lines: list[str] = []
    for block in documents.blocks(page, text, "python"):
        if block.file is not None:
            (directory / block.file).write_text(block.text)
            continue
        lines += [""] * (block.line - len(lines))
        lines += block.text.splitlines()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_of_the_page_runs(page: str, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text(script_of(page, PAGES[page], tmp_path))
    environment = {**os.environ, "PYTHONWARNINGS": WARNINGS, "PYTHONPATH": str(tmp_path)}

    with worker_of(tmp_path) if (tmp_path / "app.py").exists() else contextlib.nullcontext():
        outcome = subprocess.run(
            [sys.executable, str(script)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert outcome.returncode == 0, f"{page}:\n{outcome.stdout}{outcome.stderr}"
    assert THREADS_AT_A_FORK not in outcome.stderr, outcome.stderr
