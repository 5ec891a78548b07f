"""Commands that plugins add: they work like taskito's own, and one that fails harms no other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run

HOOKS = """
from taskito_core import hookimpl

@hookimpl
def taskito_register_commands(cli):
    import click
{body}
"""

GREET = """
    @cli.command()
    @click.option("--name", default="you")
    def greet(name):
        '''Say hello.'''
        click.echo(f"hello {name}")

    @cli.command("jobs greet")
    def greet_jobs():
        '''Say hello to jobs.'''
        from taskito_core import ConfigError
        raise ConfigError("no jobs here")

    @cli.group()
    def acme():
        '''What acme brings.'''

    @cli.command("acme go")
    def go():
        click.echo("gone")
"""


def install(directory: Path, name: str, body: str) -> None:
    """A distribution in ``directory`` whose plugin adds commands with ``body``."""
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[taskito]\n{name} = {name}_hooks\n")
    (directory / f"{name}_hooks.py").write_text(HOOKS.format(body=body))


@pytest.fixture
def lib(tmp_path: Path) -> Path:
    return tmp_path / "lib"


@pytest.fixture
def with_lib(taskito: Run, lib: Path) -> Run:
    return lambda *arguments, **variables: taskito(*arguments, PYTHONPATH=str(lib), **variables)


def test_a_plugins_commands_are_found_and_helped_like_any_other(with_lib: Run, lib: Path) -> None:
    install(lib, "friendly", GREET)

    listed = with_lib("--help")
    helped = with_lib("greet", "--help")

    assert listed.returncode == helped.returncode == 0
    assert listed.stderr == ""
    lines = {
        line.split()[0]: line for line in listed.stdout.splitlines() if line.startswith("  ") and line.split()
    }
    assert lines["greet"].endswith("Say hello.")
    assert list(lines).index("plugin") < list(lines).index("greet")
    assert "[env var: TASKITO_GREET_NAME]" in helped.stdout
    assert with_lib("greet").stdout == "hello you\n"
    assert with_lib("greet", TASKITO_GREET_NAME="Ada").stdout == "hello Ada\n"
    assert with_lib("acme", "go").stdout == "gone\n"


def test_its_options_may_stand_in_pyproject(with_lib: Run, lib: Path, project: Path) -> None:
    install(lib, "friendly", GREET)
    (project / "pyproject.toml").write_text('[tool.taskito.greet]\nname = "Grace"\n')

    assert with_lib("greet").stdout == "hello Grace\n"


def test_a_command_may_go_into_a_group_and_its_errors_are_lines(with_lib: Run, lib: Path) -> None:
    install(lib, "friendly", GREET)

    done = with_lib("jobs", "greet")

    assert "Say hello to jobs." in with_lib("jobs", "--help").stdout
    assert (done.returncode, done.stderr) == (2, "Error: no jobs here\n")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    raise RuntimeError('broken')", "RuntimeError: broken"),
        ("    raise SystemExit(0)", "SystemExit: 0"),
        ("    import no_such_library", "no_such_library"),
        ("    cli.command('worker')(lambda: None)", "'worker' cannot be added: there is one of this name"),
        ("    cli.command('plugin list')(lambda: None)", "'plugin list' cannot be added: there is one of"),
        ("    cli.command('nothing list')(lambda: None)", "there is no group 'nothing'"),
        ("    cli.command('worker list')(lambda: None)", "there is no group 'worker'"),
        (
            "    cli.command('greet')(lambda: None)",
            "'greet' cannot be added: there is one of this name already",
        ),
    ],
    ids=[
        "raises",
        "exits",
        "import",
        "own",
        "own in a group",
        "no group",
        "no group either",
        "another plugin's",
    ],
)
def test_a_plugin_that_fails_is_named_and_the_others_work(
    with_lib: Run, lib: Path, body: str, said: str
) -> None:
    install(lib, "a_broken", body)
    install(lib, "z_friendly", GREET)

    helped = with_lib("--help")
    greeted = with_lib("greet")

    [warning] = helped.stderr.splitlines()
    assert warning.startswith("Warning: plugin 'a_broken' of dist-a_broken could not add its commands: ")
    assert said in warning
    assert helped.returncode == greeted.returncode == 0
    assert greeted.stdout == "hello you\n"
    assert with_lib("worker", "--help").stderr == ""


def test_a_command_of_a_plugin_that_cannot_be_loaded_is_unknown_and_the_reason_is_told(
    with_lib: Run, lib: Path
) -> None:
    install(lib, "friendly", GREET)
    for code in ("import no_such_library", "raise SystemExit"):
        (lib / "friendly_hooks.py").write_text(code)

        done = with_lib("greet")

        assert done.returncode == 2
        assert "there is no command 'greet'" in done.stderr
        assert code.split()[1] in done.stderr
        assert with_lib("--help").returncode == 0


def test_a_wrong_list_of_plugins_spoils_no_help(taskito: Run) -> None:
    done = taskito("--help", TASKITO_LOAD_PLUGINS="nothing")

    assert (done.returncode, done.stderr) == (0, "")


def test_help_with_plugins_is_quick(taskito: Run) -> None:
    took = []
    for _ in range(3):
        started = time.perf_counter()
        assert taskito("--help").returncode == 0
        took.append(time.perf_counter() - started)

    assert min(took) < 1.0


def test_plugin_check_runs_the_suite(taskito: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/check.db"

    done = taskito("plugin", "check", url, "-k", "moves or surface")
    wrong = taskito("plugin", "check", "redis://localhost")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"= {url} =" in done.stdout
    assert "required: " in done.stdout
    assert "0 failed" in done.stdout
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(
        "Error: no installed plugin offers the storage backend 'redis://localhost'"
    )
