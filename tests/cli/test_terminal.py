"""What commands show to people: tables that fit the terminal, short ids, nothing that steers it; and JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from taskito import Queue, current_job
from taskito.cli.main import main
from taskito.cli.table import short_ids
from taskito.config.text import width
from tests.cli.conftest import Run, command, environment

Show = Callable[..., list[str]]
NASTY = "\x1b[31mred\x1b[0m \x1b]0;pwned\x07 bell\x07 \u202etxet"


@pytest.fixture
def show(project: Path, backend_url: str) -> Show:
    """The lines that a command shows on a terminal of so many columns."""

    def run(*arguments: str, columns: int = 80, **variables: str) -> list[str]:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            command(*arguments),
            cwd=project,
            env=environment(TASKITO_DB_URL=backend_url, **variables) | {"COLUMNS": ""},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        shown = b""
        try:
            while part := _read(master):
                shown += part
        finally:
            os.close(master)
            assert process.wait(60) == 0, shown
        return shown.decode().replace("\r\n", "\n").splitlines()

    return run


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # The other end is closed.
        return b""


@pytest.fixture
def broken(queue: Queue) -> str:
    """The id of a dead job that has said and raised what would steer a terminal."""

    @queue.task(name="shop.a_task_with_a_long_name", max_retries=0)
    def task() -> None:
        current_job.log(NASTY)
        raise ValueError(f"{NASTY} " + "and so on " * 30)

    with queue.embedded_worker(threads=1):
        job = task.delay()
        with pytest.raises(Exception, match="and so on"):
            job.result(30)
    return job.id


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_tables_are_as_wide_as_the_terminal(broken: str, show: Show, columns: int) -> None:
    for listing in (["jobs", "list"], ["dead", "list"], ["info"]):
        lines = show(*listing, columns=columns)
        rows = [line for line in lines if not line.startswith(("store", "schema"))]

        assert max(map(width, rows)) <= columns, listing
        assert columns == 60 or listing == ["info"] or re.search(r":\d\d[+-]\d\d:\d\d ", rows[1])


def test_an_id_is_shown_short_and_the_beginning_is_enough(broken: str, show: Show, taskito: Run) -> None:
    row = show("jobs", "list")[1]
    short = row.split()[0]

    assert broken.startswith(short)
    assert len(short) < len(broken)
    assert json.loads("\n".join(show("jobs", "show", short, "--json")))["id"] == broken
    assert json.loads("\n".join(show("dead", "show", short, "--json")))["job_id"] == broken
    assert any("red" in line for line in show("logs", short))
    assert broken in show("explain", short)[0]


def test_a_file_gets_tables_whole(broken: str, taskito: Run, backend_url: str) -> None:
    done = taskito("jobs", "list", TASKITO_DB_URL=backend_url, COLUMNS="60")

    assert broken in done.stdout
    assert done.stdout.count("and so on") > 10


def test_a_beginning_of_several_ids_is_refused_with_their_names(
    queue: Queue, taskito: Run, backend_url: str
) -> None:
    for name in ("abc1", "abc2", "abc"):
        queue.enqueue("t", id=name)

    several = taskito("jobs", "show", "ab", TASKITO_DB_URL=backend_url)
    whole = taskito("jobs", "show", "abc", "--json", TASKITO_DB_URL=backend_url)

    assert (several.returncode, several.stdout) == (2, "")
    assert "'ab' may be abc or abc1 or abc2: say which" in several.stderr
    assert json.loads(whole.stdout)["id"] == "abc"


def test_what_a_task_said_never_steers_the_terminal(
    broken: str, show: Show, taskito: Run, backend_url: str
) -> None:
    commands = [["jobs", "list"], ["jobs", "show", broken], ["dead", "list"], ["dead", "show", broken]]
    shown = [line for one in [*commands, ["logs"], ["explain", broken]] for line in show(*one)]
    waited = taskito("jobs", "show", broken, TASKITO_DB_URL=backend_url)

    for line in [*shown, *waited.stdout.splitlines(), *waited.stderr.splitlines()]:
        assert not any(character in line for character in "\x1b\x07\u202e"), ascii(line)


def test_beginnings_tell_ids_apart() -> None:
    assert short_ids(["0123456789abcdef", "0123456789abcxyz"]) == ["0123456789abcd", "0123456789abcx"]
    assert short_ids(["0123456789abcdef"]) == ["0123456789ab"]
    assert short_ids(["own", "own-2"]) == ["own", "own-2"]
    assert short_ids([]) == []


def test_json_is_one_document_with_values(broken: str, taskito: Run, backend_url: str) -> None:
    """Of every command that has --json, and of moments in ISO 8601."""

    def read(*arguments: str) -> Any:
        return json.loads(taskito(*arguments, "--json", TASKITO_DB_URL=backend_url).stdout)

    logs, job = read("logs"), read("jobs", "show", broken)
    assert isinstance(logs, list)
    assert isinstance(job, dict)
    assert [entry["job_id"] for entry in logs] == [broken]
    assert logs[0]["logged_at"].endswith("+00:00")
    assert job["created_at"].endswith("+00:00")
    assert job["errors"][0]["failed_at"].endswith("+00:00")
    assert read("dead", "list")["letters"][0]["failed_at"].endswith("+00:00")
    assert read("info")["workers"][0]["last_seen"].endswith("+00:00")


def test_the_result_that_was_waited_for_is_json(queue: Queue, taskito: Run, backend_url: str) -> None:
    @queue.task(name="shop.sums")
    def sums(n: int) -> dict[str, object]:
        return {"n": n, "list": (1, None, True), "text": "ä\x1b[31m"}

    with queue.embedded_worker(threads=1):
        sums.delay(0).result(30)
        waited = taskito("enqueue", "sums", "7", "--wait", TASKITO_DB_URL=backend_url)
        as_json = taskito("enqueue", "sums", "7", "--wait", "--json", TASKITO_DB_URL=backend_url)

    expected = {"n": 7, "list": [1, None, True], "text": "ä\x1b[31m"}
    assert json.loads(waited.stdout) == expected
    assert json.loads(as_json.stdout)["result"] == expected
    assert "\x1b" not in waited.stdout


def _helps(name: str, command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            child = click.Context(found, parent=context, info_name=inner, terminal_width=80)
            yield from _helps(f"{name} {inner}", found, child)


def test_help_fits_80_columns() -> None:
    context = click.Context(main, info_name="taskito", terminal_width=80, auto_envvar_prefix="TASKITO")

    long = [
        f"{name}: {line}"
        for name, text in _helps("taskito", main, context)
        for line in text.splitlines()
        if len(line) > 80
    ]
    assert long == []
