"""``taskito plugin list``: shows what is installed, also what is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, environment


def test_plugins_are_listed_with_distribution_version_and_offers(taskito: Run) -> None:
    done = taskito("plugin", "list")

    lines = [tuple(line.split(maxsplit=3)) for line in done.stdout.splitlines()]
    assert lines[0] == ("plugin", "distribution", "version", "offers")
    offers = {line[0]: line[1:] for line in lines}
    kinds = ("storage", "limiter", "breaker", "metrics")
    of_postgres = ", ".join(f"{kind} postgres/postgresql" for kind in kinds)
    of_sqlite = ", ".join(f"{kind} sqlite" for kind in kinds)
    assert offers["postgres"] == ("taskito-postgres", "0.1.0", of_postgres)
    assert offers["sqlite"] == ("taskito-sqlite", "0.1.0", of_sqlite)


def test_without_plugins_the_answer_is_empty_and_the_advice_on_stderr(taskito: Run) -> None:
    done = taskito("plugin", "list", TASKITO_LOAD_PLUGINS="")

    assert (done.returncode, done.stdout) == (0, "")
    assert "pip install taskito-sqlite" in done.stderr
    assert taskito("plugin", "list", "--json", TASKITO_LOAD_PLUGINS="").stdout == "[]\n"


def test_a_broken_plugin_stops_commands_that_need_a_store_but_not_the_list(
    taskito: Run, tmp_path: Path
) -> None:
    info = tmp_path / "lib" / "bad-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[taskito]\nbad = no_such_module\n")
    path = str(tmp_path / "lib")

    listed = taskito("plugin", "list", PYTHONPATH=path)
    as_json = taskito("plugin", "list", "--json", PYTHONPATH=path)
    used = taskito("info", PYTHONPATH=path)

    assert listed.returncode == 0
    assert "no_such_module" in listed.stderr
    found = {one["name"]: one for one in json.loads(as_json.stdout)}
    assert "no_such_module" in found["bad"]["problem"]
    assert found["sqlite"]["problem"] is None
    assert used.returncode == 2
    assert "'bad' of bad 1.0" in used.stderr


PRODUCER = """
from taskito import ConfigError, Queue

try:
    Queue("jobs.db").enqueue("mail")
except ConfigError as exc:
    print(exc)
"""


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "raise GeneratorExit"])
def test_a_plugin_that_exits_when_it_is_imported_ends_no_command_and_no_producer_in_silence(
    taskito: Run, tmp_path: Path, code: str
) -> None:
    info = tmp_path / "lib" / "leaver-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dist-leaver\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[taskito]\nleaver = leaver_hooks\n")
    (tmp_path / "lib" / "leaver_hooks.py").write_text(code)
    path = str(tmp_path / "lib")

    listed = taskito("plugin", "list", PYTHONPATH=path)
    producer = subprocess.run(
        [sys.executable, "-c", PRODUCER],
        cwd=tmp_path,
        env=environment(PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert listed.returncode == 0
    assert "sqlite" in listed.stdout
    for said in (listed.stderr, producer.stdout):
        assert "plugin 'leaver' of dist-leaver 1.0 cannot be imported" in said
        assert "Exit" in said
