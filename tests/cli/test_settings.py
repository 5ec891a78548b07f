"""What variables and pyproject.toml say to commands: slips are refused, and every error says where."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import click
import pytest

from conftest import WaitUntil
from taskito.cli.main import COMMANDS, main
from taskito.config.settings import VARIABLES, refuse_slip
from tests.cli.conftest import Run, command, environment

VARIABLE_SLIPS = {
    "TASKITO_DBURL": "TASKITO_DB_URL",
    "TASKITO_DEFAULT_RETRIES": "TASKITO_DEFAULT_RETRY",
    "TASKITO_SCHEMAS": "TASKITO_SCHEMA",
    "TASKITO_WORKER_PROC": "TASKITO_WORKER_PROCS",
    "TASKITO_WORKER_GRACE_TIMEOUT": "TASKITO_WORKER_GRACEFUL_TIMEOUT",
    "TASKITO_GRACEFUL_TIMEOUT": "TASKITO_WORKER_GRACEFUL_TIMEOUT",
    "TASKITO_PROCS": "TASKITO_WORKER_PROCS",
    "TASKITO_JOBS_LIST_LIMITS": "TASKITO_JOBS_LIST_LIMIT",
}
OTHERS = {
    "TASKITO_TEST_POSTGRES_URL": "postgresql://h/d",
    "TASKITO_VERSION": "1.2",
    "TASKITO_IMAGE": "registry/taskito:1",
    "TASKITO_SERVICE_HOST": "10.0.0.1",
    "TASKITO_SERVICE_PORT_HTTP": "80",
    "TASKITO_PORT": "tcp://10.0.0.1:80",
    "TASKITO_WORKER_PORT": "tcp://10.0.0.2:80",
    "TASKITO_WORKER_PORT_9090_TCP_ADDR": "10.0.0.2",
    "TASKITO_WORKER_SERVICE_HOST": "10.0.0.2",
    "TASKITO_SCHEMAS": "",
}


@pytest.mark.parametrize("variable", VARIABLE_SLIPS)
def test_a_misspelt_variable_is_refused_with_the_right_one(variable: str, taskito: Run) -> None:
    done = taskito("plugin", "list", **{variable: "7"})

    assert done.returncode == 2
    assert done.stderr == (
        f"Error: nothing reads the variable {variable}; did you mean {VARIABLE_SLIPS[variable]}?\n"
    )


def test_other_programs_may_have_variables_of_the_same_beginning(taskito: Run) -> None:
    done = taskito("info", "--app", "myapp:queue", **OTHERS)

    assert (done.returncode, done.stderr) == (0, "")


def test_no_variable_of_a_command_is_taken_for_a_misspelt_setting() -> None:
    """A Queue reads its settings in processes that know no commands."""
    context = click.Context(main)
    for name in COMMANDS:
        found = main.get_command(context, name)
        assert found is not None
        for path, one in leaves(name, found).items():
            for option in one.params:
                refuse_slip(f"TASKITO_{path}_{option.name}".upper())
    assert "TASKITO_DB_URL" in VARIABLES


def leaves(path: str, found: click.Command) -> dict[str, click.Command]:
    if not isinstance(found, click.Group):
        return {path: found}
    return {
        name: leaf
        for inner, child in found.commands.items()
        for name, leaf in leaves(f"{path}_{inner}", child).items()
    }


TABLE_SLIPS = {
    "[tool.taskito.worker]\ngraceful-timout = 3": "[tool.taskito.worker] in {file} has no key "
    "'graceful-timout'; did you mean 'graceful-timeout'?",
    "[tool.taskito.worker]\nconcurency = 3": "[tool.taskito.worker] in {file} has no key 'concurency'",
    "[tool.taskito.jobs.list]\nlimits = 3": "[tool.taskito.jobs.list] in {file} has no key 'limits'; "
    "did you mean 'limit'?",
    "[tool.taskito.jobs.lst]\nlimit = 3": "[tool.taskito.jobs] in {file} has no key 'lst'; "
    "did you mean 'list'?",
    "[tool.taskito.workers]\nprocs = 3": "[tool.taskito.workers] in {file} is no command; "
    "did you mean 'worker'?",
    "[tool.taskito]\nproc = 3": "[tool.taskito] in {file} has no key 'proc'; did you mean 'procs'?",
    "[tool.taskito]\ndb_pth = 'x'": "[tool.taskito] in {file} has no key 'db_pth'; did you mean 'db_path'?",
}


@pytest.mark.parametrize("text", TABLE_SLIPS)
def test_a_misspelt_key_is_refused_whichever_command_is_run(text: str, taskito: Run, project: Path) -> None:
    file = project / "pyproject.toml"
    file.write_text(text + "\n")

    done = taskito("plugin", "list")

    assert done.returncode == 2
    assert TABLE_SLIPS[text].format(file=file) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_tables_and_keys_of_plugins_are_left_alone(taskito: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text(
        "[tool.taskito]\nflavour = 'x'\n[tool.taskito.dashboard]\nport = 8080\n[tool.taskito.plugin.check]\n"
    )

    done = taskito("info")

    assert (done.returncode, done.stderr) == (0, "")


def test_a_key_is_an_option_as_it_is_spelt(taskito: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.taskito.enqueue]\nqueue = 'mail'\nunique-key = 'k'\n")
    assert taskito("enqueue", "t").returncode == 0

    assert '"mail"' in taskito("queues", "list", "--json").stdout


WRONG_VALUES = [
    ({"TASKITO_WORKER_PROCS": "many"}, "", "(from the variable TASKITO_WORKER_PROCS)"),
    ({}, "[tool.taskito.worker]\nprocs = 'many'\n", "(from [tool.taskito] in {file})"),
    ({}, "[tool.taskito]\nprocs = -1\n", "(from [tool.taskito] in {file})"),
]


@pytest.mark.parametrize(("variables", "text", "place"), WRONG_VALUES)
def test_a_wrong_value_of_an_option_says_where_it_is_from(
    variables: dict[str, str], text: str, place: str, taskito: Run, project: Path
) -> None:
    file = project / "pyproject.toml"
    file.write_text(text)

    done = taskito("worker", "--app", "myapp:queue", **variables)

    assert done.returncode == 2
    assert "--procs" in done.stderr
    assert place.format(file=file) in " ".join(done.stderr.split())


WRONG_SETTINGS = [
    ("schema", "a-b", {"TASKITO_DB_URL": "postgresql://h/d"}),
    ("backend", "mysql", {}),
    ("db_url", "postgresql://h:port/d", {}),
    ("limiter", "nothing", {}),
    ("breaker", "nothing", {}),
    ("metrics", "nothing", {}),
    ("plugins", "nothing", {}),
    ("durability", "none", {}),
]


@pytest.mark.parametrize(("name", "value", "others"), WRONG_SETTINGS)
@pytest.mark.parametrize("app", [(), ("--app", "myapp:queue")])
def test_every_error_about_a_setting_says_where_it_is_from(
    name: str, value: str, others: dict[str, str], app: tuple[str, ...], taskito: Run, project: Path
) -> None:
    file = project / "pyproject.toml"
    by_variable = taskito("jobs", "list", *app, **others, **{f"TASKITO_{name.upper()}": value})
    file.write_text(f"[tool.taskito]\n{name} = {value!r}\n")
    by_file = taskito("jobs", "list", *app, **others)

    for done, place in ((by_variable, f"TASKITO_{name.upper()}"), (by_file, f"[tool.taskito] in {file}")):
        assert done.returncode == (3 if app else 2), done.stderr
        [line] = done.stderr.splitlines()
        assert place in line
        assert (f"({project}/myapp.py:4)" in line) is bool(app), "the user's own line, and not one of ours"


def test_an_error_about_the_store_says_who_named_it(taskito: Run, project: Path) -> None:
    url = "postgresql://u@127.0.0.1:1/d?connect_timeout=2"
    file = project / "pyproject.toml"
    file.write_text(f"[tool.taskito]\ndb_url = '{url}'\n")

    for away in (("info",), ("jobs", "list", "--app", "myapp:queue")):
        done = taskito(*away)
        assert done.returncode == 4
        assert f"(db_url is from [tool.taskito] in {file})" in done.stderr
    file.write_text("[tool.taskito]\ndb_path = 'no/such/jobs.db'\n")
    for missing in (("enqueue", "t"), ("jobs", "list")):
        done = taskito(*missing)
        assert done.returncode == 2
        assert f"(db_path is from [tool.taskito] in {file})" in done.stderr


def test_a_worker_names_what_nothing_reads_and_where_a_setting_is_wrong(
    project: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    (project / "pyproject.toml").write_text("[tool.taskito]\nflavour = 'x'\n")
    output = tmp_path / "output"
    variables = OTHERS | {"TASKITO_DATABASE_URL": "x", "TASKITO_SQLITE_SOMETHING": "x"}
    with output.open("wb") as file:
        worker = subprocess.Popen(
            command("worker", "--app", "myapp:queue", "--procs", "1"),
            cwd=project,
            env=environment(**variables),
            stdout=file,
            stderr=file,
        )
    try:
        wait_until(lambda: " app myapp:queue, procs 1" in output.read_text(), 30)
    finally:
        os.kill(worker.pid, signal.SIGINT)
        assert worker.wait(30) == 0

    told = [
        line.partition("nothing reads ")[2]
        for line in output.read_text().splitlines()
        if "nothing reads" in line
    ]
    assert told == [
        "the environment variable TASKITO_VERSION",
        "the environment variable TASKITO_IMAGE",
        "the environment variable TASKITO_DATABASE_URL",
        f"the key 'flavour' of [tool.taskito] in {project}/pyproject.toml",
    ]


def test_a_worker_whose_app_has_a_wrong_setting_names_the_line_of_the_app(
    taskito: Run, project: Path
) -> None:
    (project / "wrong.py").write_text("from taskito import Queue\n\nqueue = Queue(limiter='nothing')\n")

    done = taskito("worker", "--app", "wrong:queue")

    assert done.returncode == 3
    assert f"(limiter is from the argument limiter) ({project}/wrong.py:3)" in done.stderr
