"""How zygotes and children start, and what they say when they cannot."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskito.worker.ipc.argv import EXIT_BOOT_FAILED, EXIT_SUPERVISOR_GONE
from taskito.worker.ipc.wire import PROTOCOL_VERSION, MessageType, unpack_hello
from tests.worker.child.driver import PATIENCE, Child, Spawned, Zygote

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and a subreaper")

WaitUntil = Callable[..., None]


def make_app(directory: Path, source: str) -> dict[str, str]:
    """The environment in which ``broken_app:queue`` is an app with this source."""
    (directory / "broken_app.py").write_text(source)
    return {"PYTHONPATH": str(directory)}


GOOD_HEAD = """
from taskito import Queue
queue = Queue(db_path='/nonexistent/never-opened.db')
@queue.task(name='fd')
"""


def test_a_zygote_reports_the_app(zygote_process: Zygote) -> None:
    with_report = Zygote()
    try:
        report = with_report.boot()
    finally:
        with_report.close()

    assert report.app == "tests.worker.child.jobs:queue"
    assert report.tasks["soft"].soft_timeout == 0.2
    assert report.max_payload == 100_000
    assert report.threads == ()


def test_a_forked_child_belongs_to_the_supervisor_and_to_its_own_group(child: Child) -> None:
    seen = child.value("process")

    assert seen["pid"] == seen["pgid"] == child.pid
    assert seen["ppid"] == os.getpid()


def test_a_child_says_hello_with_version_and_pid_first(zygote: Zygote) -> None:
    child = zygote.fork()
    try:
        hello = unpack_hello(child.control.expect(MessageType.HELLO))
        ready = child.control.expect(MessageType.READY)
    finally:
        child.close()

    assert hello == (PROTOCOL_VERSION, child.pid)
    assert ready == b""


def test_a_spawned_child_reports_the_app_and_runs_jobs() -> None:
    child = Spawned()
    try:
        report = json.loads(child.boot())
        added = child.value("add", 1, 2)
        seen = child.value("process")
    finally:
        child.close()

    assert report["app"] == "tests.worker.child.jobs:queue"
    assert added == 3
    assert seen["pid"] == seen["pgid"] == child.pid


def test_a_child_starts_with_nothing_blocked_and_collecting_garbage(any_child: Child) -> None:
    seen = any_child.value("process")

    assert seen["blocked"] == []
    assert seen["gc"] is True
    assert seen["threads"] == ["MainThread", "taskito-control"]


def test_a_forked_child_has_no_descriptors_but_its_own(child: Child) -> None:
    seen = child.value("process")

    # 0-2 and a copy of each, data, control, trace, slots, the map's own copy of it, lifeline, and the alarm's
    # two ends.
    assert len(seen["descriptors"]) == 14, seen["descriptors"]


def test_the_command_line_of_ours_is_hidden_from_the_app(any_child: Child) -> None:
    assert len(any_child.value("process")["argv"]) == 1


def test_siblings_do_not_share_random_numbers(fork: Callable[[], Child]) -> None:
    first, second = fork(), fork()

    assert first.value("process")["random"] != second.value("process")["random"]


@pytest.mark.parametrize("kind", [Zygote, Spawned])
def test_an_app_that_raises_at_import_fails_with_its_own_traceback(kind: type, tmp_path: Path) -> None:
    env = make_app(tmp_path, "def load():\n    return 1 / 0\nload()\n")

    text, code, _ = failed_boot(kind, "broken_app:queue", env)

    assert text[0] == "traceback"
    assert text[1].startswith("Traceback (most recent call last):")
    assert text[1].rstrip().endswith("ZeroDivisionError: division by zero")
    assert "in load" in text[1]
    assert "/taskito/" not in text[1]
    assert "importlib" not in text[1]
    assert code == EXIT_BOOT_FAILED


@pytest.mark.parametrize("kind", [Zygote, Spawned])
def test_a_wrong_app_name_fails_with_one_sentence(kind: type, tmp_path: Path) -> None:
    env = make_app(tmp_path, "queue = 1\n")

    text, code, printed = failed_boot(kind, "broken_app:queue", env)

    assert text[0] == "error"
    assert "\n" not in text[1]
    assert code == EXIT_BOOT_FAILED
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    "source", ["import sys\nsys.exit(5)\n", "def broken(:\n", "import nowhere_to_be_found\n"]
)
def test_any_failure_of_an_import_is_reported(source: str, tmp_path: Path) -> None:
    text, code, _ = failed_boot(Zygote, "broken_app:queue", make_app(tmp_path, source))

    assert text[0] == "traceback"
    assert code == EXIT_BOOT_FAILED


def failed_boot(kind: type, app: str, env: dict[str, str]) -> tuple[list[str], int, str]:
    """(body of FAILED, exit code, what was printed) of something that cannot boot."""
    program = kind(app, env=env)
    try:
        if isinstance(program, Zygote):
            body = program.channel.expect(MessageType.FAILED)
        else:
            program.control.expect(MessageType.HELLO)
            body = program.control.expect(MessageType.FAILED)
        program.program.process.wait(timeout=PATIENCE)
    finally:
        printed = program.close()
    return json.loads(body), program.program.process.returncode, printed or getattr(program, "printed", "")


def test_threads_of_the_app_are_named_in_the_report(tmp_path: Path) -> None:
    source = (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), name='metrics', daemon=True).start()\n"
    )
    zygote = Zygote("broken_app:queue", env=make_app(tmp_path, source + GOOD_HEAD + "def f(): pass\n"))
    try:
        report = zygote.boot()
    finally:
        zygote.close()

    assert report.threads == ("metrics",)


def test_connections_opened_at_import_are_named_and_useless_in_children(
    zygote_process: Zygote, tmp_path: Path
) -> None:
    source = f"""
import os, socket, sqlite3
log_file = open({str(tmp_path / "app.log")!r}, "a", buffering=1)
ours, theirs = socket.socketpair()
database = sqlite3.connect({str(tmp_path / "app.db")!r})
database.execute("CREATE TABLE IF NOT EXISTS t (x)")
database.commit()
{GOOD_HEAD}
def look():
    seen = []
    for use in (lambda: ours.send(b"x"), lambda: database.execute("SELECT * FROM t").fetchall()):
        try:
            use()
        except (OSError, sqlite3.Error) as exc:
            seen.append(type(exc).__name__)
    log_file.write("from a child\\n")
    return [seen, ours.fileno()]
"""
    zygote = Zygote("broken_app:queue", env=make_app(tmp_path, source))
    try:
        zygote.boot()
        child = zygote.fork()
        try:
            child.boot()
            seen, fd = child.value("fd")
        finally:
            child.close()
    finally:
        printed = zygote.close()

    assert len(seen) == 2, "neither may be usable"
    assert f"{fd} (a socket)" in printed
    assert "app.db" in printed
    assert (tmp_path / "app.log").read_text() == "from a child\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_zygote_is_deaf_to_the_signals_of_a_group(
    zygote: Zygote, fork: Callable[[], Child], signum: int
) -> None:
    os.kill(zygote.pid, signum)

    assert fork().value("add", 1, 1) == 2


def test_a_zygote_ends_when_its_channel_does() -> None:
    zygote = Zygote()
    zygote.boot()

    zygote.channel.sock.close()

    assert zygote.program.process.wait(timeout=PATIENCE) == 0
    zygote.close()


def test_a_zygote_that_cannot_fork_answers_with_pid_0(zygote_process: Zygote, tmp_path: Path) -> None:
    source = "import os\ndef fork():\n    raise BlockingIOError(11, 'no more')\nos.fork = fork\n" + GOOD_HEAD
    zygote = Zygote("broken_app:queue", env=make_app(tmp_path, source + "def f(): pass\n"))
    try:
        zygote.boot()
        child = zygote.fork()
        child.close()
        second = zygote.fork()
        second.close()
    finally:
        zygote.close()

    assert child.pid == second.pid == 0


def test_children_outlive_their_zygote() -> None:
    zygote = Zygote()
    zygote.boot()
    child = zygote.fork()
    try:
        child.boot()
        zygote.program.process.kill()
        zygote.program.process.wait(timeout=PATIENCE)

        assert child.value("add", 2, 2) == 4
    finally:
        child.close()
        zygote.close()


@pytest.mark.parametrize("socket_name", ["data", "control"])
def test_a_child_ends_at_once_when_its_supervisor_is_gone(child: Child, socket_name: str) -> None:
    getattr(child, socket_name).sock.close()

    assert child.wait_for_death() == EXIT_SUPERVISOR_GONE
