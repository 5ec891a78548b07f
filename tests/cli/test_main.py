"""The command as such: help, versions, where its options come from, and how it fails."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskito.cli.main import COMMANDS, main
from taskito.cli.options.settings import defaults
from tests.cli.conftest import Run, environment

UNREACHABLE = "postgresql://u:hunter2@127.0.0.1:1/d"


def test_help_lists_every_command_with_a_line_about_it(taskito: Run) -> None:
    done = taskito("--help")

    assert done.returncode == 0
    for name in COMMANDS:
        [line] = [line for line in done.stdout.splitlines() if line.strip().startswith(f"{name} ")]
        assert len(line.split()) > 3
    assert "Exit codes" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_names_the_variable_of_each_option(name: str, taskito: Run) -> None:
    done = taskito(name, "--help")

    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    options = [line for line in done.stdout.splitlines() if line.startswith("  -") and "--help" not in line]
    assert text.count("[env var: TASKITO_") == len(options)


def test_the_version_is_printed_whatever_the_environment_says_about_versions(taskito: Run) -> None:
    assert taskito("--version").stdout.startswith("taskito 0.")
    assert taskito("plugin", "list", TASKITO_VERSION="1").stdout.startswith("plugin ")


def test_python_runs_the_command_as_a_module_too(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskito", "enqueue", "--app", "myapp:queue", "add", "1", "2"],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, len(done.stdout.strip())) == (0, 32), done.stderr
    wrong = subprocess.run(
        [sys.executable, "-m", "taskito", "enqueue"], capture_output=True, text=True, timeout=60, check=False
    )
    assert wrong.stderr.startswith("Usage: python -m taskito enqueue")


def test_an_unknown_command_is_a_usage_error(taskito: Run) -> None:
    done = taskito("wroker")

    assert done.returncode == 2
    assert "wroker" in done.stderr


# ---- the app ----

WRONG_APPS = [
    ("myapp", "module:attribute"),
    ("myapp:nothing", "nothing"),
    ("myapp:not_a_queue", "Queue"),
    ("no_such_module:queue", "no_such_module"),
]


@pytest.mark.parametrize(("app", "reason"), WRONG_APPS)
def test_an_app_that_cannot_be_found_is_one_line_and_exit_3(app: str, reason: str, taskito: Run) -> None:
    done = taskito("info", "--app", app)

    assert done.returncode == 3
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert reason in line


@pytest.mark.parametrize("code", ["import no_such_library", "1 / 0", "raise SystemExit(0)", "def broken(:"])
def test_an_error_inside_the_app_is_shown_once_with_its_traceback_and_exit_3(
    code: str, taskito: Run, project: Path
) -> None:
    (project / "broken.py").write_text(f"{code}\n")

    done = taskito("info", "--app", "broken:queue")

    assert done.returncode == 3
    assert done.stdout == ""
    assert "broken.py" in done.stderr
    assert done.stderr.count("Traceback") <= 1
    assert "/taskito/cli/" not in done.stderr, "our own frames only hide theirs"
    assert done.stderr.strip().splitlines()[-1].startswith("Error: cannot load 'broken:queue'")


def test_an_app_whose_settings_are_wrong_is_exit_3(taskito: Run) -> None:
    done = taskito("info", "--app", "myapp:queue", TASKITO_WORKERS="many")

    assert done.returncode == 3
    assert "TASKITO_WORKERS" in done.stderr
    assert "Traceback" not in done.stderr


# ---- where options come from ----


def test_the_app_can_be_named_by_option_variable_or_pyproject_in_this_order(
    taskito: Run, project: Path
) -> None:
    (project / "pyproject.toml").write_text('[tool.taskito]\napp = "from_file:queue"\n')

    assert "from_file" in taskito("info").stderr
    assert "from_variable" in taskito("info", TASKITO_APP="from_variable:queue").stderr
    by_option = taskito("info", "--app", "from_option:queue", TASKITO_APP="from_variable:queue")
    assert "from_option" in by_option.stderr


def test_pyproject_speaks_to_all_commands_and_to_one() -> None:
    found = defaults(
        {"app": "a:q", "log-level": "debug", "worker": {"graceful-timeout": 3, "log-level": "error"}}
        | {"plugin": {"list": {"json": True}}},
        COMMANDS,
    )

    assert found["info"] == {"app": "a:q", "log_level": "debug"}
    assert found["worker"] == {"app": "a:q", "log_level": "error", "graceful_timeout": 3}
    assert found["plugin"]["list"] == {"app": "a:q", "log_level": "debug", "json": True}


def test_every_option_of_a_subcommand_can_be_set_in_pyproject(taskito: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.taskito.plugin.list]\njson = true\n")

    assert taskito("plugin", "list").stdout.startswith("[")


# ---- failing ----


@pytest.mark.parametrize("arguments", [("info",), ("migrate",), ("migrate", "--check")])
def test_a_store_that_cannot_be_reached_is_exit_4_without_the_password(
    arguments: tuple[str, ...], taskito: Run
) -> None:
    started = time.monotonic()
    done = taskito(*arguments, TASKITO_DB_URL=UNREACHABLE)

    assert done.returncode == 4, done.stderr
    assert time.monotonic() - started < 50
    assert done.stdout == ""
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: ")


def test_a_wrong_setting_is_exit_2_and_names_its_source(taskito: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.taskito]\nworkers = -1\n")

    done = taskito("info")

    assert done.returncode == 2
    assert "workers must be" in done.stderr
    assert "pyproject.toml" in done.stderr


def test_a_broken_pyproject_is_exit_2(taskito: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.taskito\n")

    assert taskito("info").returncode == 2


def test_every_command_has_help_of_more_than_a_line() -> None:
    import click

    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        assert len((command.help or "").strip().splitlines()) > 2, name


def test_an_import_that_takes_long_is_named(taskito: Run, project: Path) -> None:
    app = "import threading\nfrom taskito import Queue\nqueue = Queue()\nthreading.Event().wait(6)\n"
    (project / "slowapp.py").write_text(app)

    done = taskito("enqueue", "t", "--app", "slowapp:queue", "--unknown")

    assert done.returncode == 0, done.stderr
    said = f"importing 'slowapp:queue' takes longer than 5 s: it is at line 4 of {project}/slowapp.py\n"
    assert done.stderr.startswith(said)
