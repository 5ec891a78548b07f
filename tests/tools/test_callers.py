"""What a test run inherits from its caller decides nothing."""

from __future__ import annotations

import subprocess
import sys

from tools import documents

#: Starts a program as tests do, and has it interrupted.
INTERRUPT = """
import signal, subprocess, sys
if sys.argv[1] == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
import conftest
sleeper = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
sleeper.stdout.readline()
sleeper.send_signal(signal.SIGINT)
print(sleeper.wait(20))
"""


def interrupted(how: str) -> str:
    ignoring = "trap '' INT; " if how == "ignored" else ""
    command = ["sh", "-c", f'{ignoring}exec "$0" -c "$1" {how}', sys.executable, INTERRUPT]
    return subprocess.run(
        command, cwd=documents.ROOT, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def test_sigint_reaches_what_tests_start_although_their_caller_ignores_it() -> None:
    assert interrupted("ignored") == "-2"


def test_sigint_reaches_what_tests_start_although_their_caller_blocks_it() -> None:
    assert interrupted("blocked") == "-2"
