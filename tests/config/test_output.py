"""Standard output that costs nobody a job: whatever its reader does, writing neither fails nor waits long."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import WaitUntil

LONG = 60.0

HEAD = """
import io, logging, os, sys, time
from taskito.config.logging import configure
from taskito.config.output import protect

def report(*words):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, " ".join(map(str, words)).encode() + b"\\n")
    os.close(fd)

protect(0.1)
"""
Ends = tuple[int, int]


def a_pipe() -> Ends:
    return os.pipe()


def a_socket() -> Ends:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def a_terminal() -> Ends:
    return pty.openpty()


def start(source: str, out: int, report: Path, **env: str) -> subprocess.Popen[bytes]:
    """The program with both outputs going there; ``out`` is closed here."""
    try:
        command = [sys.executable, "-c", HEAD + source, str(report)]
        return subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **env})
    finally:
        os.close(out)


def read_all(fd: int) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:  # the end of a terminal
            return found
        if not data:
            return found
        found += data


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_terminal])
def test_a_reader_that_is_gone_fails_no_write(make: Callable[[], Ends], tmp_path: Path) -> None:
    ours, theirs = make()
    os.close(ours)

    program = start(
        """
configure()
for _ in range(1000):
    print("x" * 99, flush=True)
print("to err", file=sys.stderr)
sys.stdout.buffer.write(b"bytes")
sys.stdout.flush()
logging.getLogger("taskito").warning("a record")
report("well")
""",
        theirs,
        tmp_path / "report",
    )

    assert program.wait(LONG) == 0
    assert (tmp_path / "report").read_text() == "well\n"


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_terminal])
def test_a_reader_that_stands_still_is_waited_for_once_and_told_what_it_missed(
    make: Callable[[], Ends], tmp_path: Path, wait_until: WaitUntil
) -> None:
    ours, theirs = make()
    report, go = tmp_path / "report", tmp_path / "go"
    program = start(
        f"""
started = time.monotonic()
for _ in range(20_000):
    print("x" * 99)
report(time.monotonic() - started)
while not os.path.exists({str(go)!r}):
    time.sleep(0.01)
for _ in range(200):
    print("again")
    time.sleep(0.005)
""",
        theirs,
        report,
    )
    # Nothing is read before the program has written more than anything between us can hold.
    wait_until(lambda: report.exists() and report.read_text())

    go.touch()
    found = read_all(ours)
    os.close(ours)

    assert program.wait(LONG) == 0
    assert float(report.read_text()) < 20
    assert b"bytes of output were lost: nobody read them" in found
    assert found.rstrip().endswith(b"again")


def test_with_a_reader_everything_arrives_in_order(tmp_path: Path) -> None:
    ours, theirs = a_pipe()
    program = start("for n in range(100_000):\n    print(n)\n", theirs, tmp_path / "report")

    found = read_all(ours)
    os.close(ours)

    assert program.wait(LONG) == 0
    assert found.split() == [str(n).encode() for n in range(100_000)]


def test_what_cannot_be_encoded_is_written_as_its_number(tmp_path: Path) -> None:
    ours, theirs = a_pipe()
    source = r"print('5 \u20ac', '\ud800')"
    program = start(source, theirs, tmp_path / "report", PYTHONIOENCODING="latin-1")

    found = read_all(ours)
    os.close(ours)

    assert program.wait(LONG) == 0
    assert found == b"5 \\u20ac \\ud800\n"


def test_nobody_can_close_it_and_a_redirection_is_heeded(tmp_path: Path) -> None:
    ours, theirs = a_pipe()
    other = tmp_path / "other"
    program = start(
        f"""
print("before")
sys.stdout.close()
io.TextIOWrapper(sys.stdout.buffer)  # closes what it wraps when it is collected
print("closed")
kept = os.dup(1)
fd = os.open({str(other)!r}, os.O_WRONLY | os.O_CREAT)
os.dup2(fd, 1)
print("redirected")
os.close(1)
print("nowhere")
os.dup2(kept, 1)
if os.fork() == 0:
    print("forked")
    os._exit(0)
os.wait()
print("after")
""",
        theirs,
        tmp_path / "report",
    )

    found = read_all(ours)
    os.close(ours)

    assert program.wait(LONG) == 0
    assert other.read_text() == "redirected\n"
    assert [line for line in found.decode().split("\n") if line and "lost" not in line] == [
        "before",
        "closed",
        "forked",
        "after",
    ]
