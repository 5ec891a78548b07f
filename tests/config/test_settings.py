"""Which source of a setting wins, for every setting there is."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from taskito import Queue
from taskito.config.settings import RULES, UNSET, Origin, Settings, Source, project_table, resolve
from taskito_core.errors import ConfigError


class Row(NamedTuple):
    """One setting: its default, and three other values with the text that means each."""

    default: Any
    project: Any
    environment: tuple[str, Any]
    argument: tuple[Any, Any]


TABLE: dict[str, Row] = {
    "db_path": Row(".taskito/taskito.db", "/p/jobs.db", ("/e/jobs.db", "/e/jobs.db"), (Path("/a/j"), "/a/j")),
    "workers": Row(0, 2, ("3", 3), (4, 4)),
    "default_retry": Row(3, 5, ("0", 0), (1, 1)),
    "max_crashes": Row(2, 5, ("0", 0), (1, 1)),
    "default_timeout": Row(300.0, 60, ("90", 90.0), (0, 0.0)),
    "default_priority": Row(0, 5, ("-7", -7), (9, 9)),
    "result_ttl": Row(None, 3600, ("1.5h", 5400.0), (0, 0.0)),
    "unreadable_ttl": Row(3600.0, 60, ("90s", 90.0), (0, 0.0)),
    "backend": Row("sqlite", "postgres", ("PostgreSQL", "postgresql"), ("Memory", "memory")),
    "db_url": Row(None, "sqlite:///p", ("sqlite:///e", "sqlite:///e"), ("sqlite:///a", "sqlite:///a")),
    "schema": Row("taskito", "p", ("e", "e"), ("a", "a")),
    "pool_size": Row(None, 2, ("3", 3), (4, 4)),
    "auto_migrate": Row(True, False, ("false", False), (True, True)),
    "durability": Row("power", "process", ("PROCESS", "process"), ("process", "process")),
    "plugins": Row(None, ["p"], ("sqlite, e", ("sqlite", "e")), (("a",), ("a",))),
    "limiter": Row(None, "p", ("redis://e", "redis://e"), ("a", "a")),
    "breaker": Row(None, "p", ("e", "e"), ("a", "a")),
    "metrics": Row(None, "p", ("e", "e"), ("a", "a")),
    "max_payload": Row(16 * 1024 * 1024, 1024, ("2048", 2048), (4096, 4096)),
}

every_setting = pytest.mark.parametrize("name", TABLE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory in which nothing is configured, with a pyproject.toml of no interest above it."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    return tmp_path


def configure(project: Path, **values: Any) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    (project / "pyproject.toml").write_text("[tool.taskito]\n" + "\n".join(lines))


def test_the_table_of_this_test_names_every_setting() -> None:
    assert list(TABLE) == list(RULES)


@every_setting
def test_nothing_said_means_the_default(name: str, project: Path) -> None:
    settings = resolve({}, environ={}, directory=project)

    assert getattr(settings, name) == TABLE[name].default
    assert settings.origins[name].source is Source.DEFAULT


@every_setting
def test_pyproject_beats_the_default(name: str, project: Path) -> None:
    row = TABLE[name]
    configure(project, **{name: row.project})

    settings = resolve({}, environ={}, directory=project)

    expected = tuple(row.project) if isinstance(row.project, list) else row.project
    assert getattr(settings, name) == expected
    assert settings.origins[name] == Origin(Source.PROJECT, str(project / "pyproject.toml"))


@every_setting
def test_the_environment_beats_pyproject(name: str, project: Path) -> None:
    row = TABLE[name]
    configure(project, **{name: row.project})
    text, meaning = row.environment
    variable = f"TASKITO_{name.upper()}"

    settings = resolve({}, environ={variable: text}, directory=project)

    assert getattr(settings, name) == meaning
    assert settings.origins[name] == Origin(Source.ENVIRONMENT, variable)


@every_setting
def test_an_argument_beats_everything(name: str, project: Path) -> None:
    row = TABLE[name]
    configure(project, **{name: row.project})
    given, meaning = row.argument

    settings = resolve(
        {name: given}, environ={f"TASKITO_{name.upper()}": row.environment[0]}, directory=project
    )

    assert getattr(settings, name) == meaning
    assert settings.origins[name] == Origin(Source.ARGUMENT, name)


@every_setting
def test_an_empty_variable_and_an_unset_argument_say_nothing(name: str, project: Path) -> None:
    settings = resolve({name: UNSET}, environ={f"TASKITO_{name.upper()}": ""}, directory=project)

    assert getattr(settings, name) == TABLE[name].default


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.default is None])
def test_an_explicit_none_is_a_value_and_beats_the_environment(name: str, project: Path) -> None:
    environ = {f"TASKITO_{name.upper()}": TABLE[name].environment[0]}

    settings = resolve({name: None}, environ=environ, directory=project)

    assert getattr(settings, name) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("default_retry", 0),
        ("max_crashes", 0),
        ("default_timeout", 0),
        ("default_timeout", None),
        ("default_priority", 0),
        ("result_ttl", 0),
    ],
)
def test_an_explicit_zero_is_honoured(name: str, value: object, project: Path) -> None:
    configure(project, **{name: TABLE[name].project})

    settings = resolve({name: value}, environ={}, directory=project)

    assert getattr(settings, name) == 0


def test_every_argument_of_a_queue_is_a_setting_but_the_two_that_are_objects() -> None:
    arguments = list(inspect.signature(Queue).parameters)

    assert set(arguments) - {"serializer", "middleware"} == set(RULES)
    assert arguments[:10] == [
        *("db_path", "workers", "default_retry", "default_timeout", "default_priority", "result_ttl"),
        *("serializer", "middleware", "backend", "db_url"),
    ]


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(ConfigError, match="no setting 'worker'"):
        resolve({"worker": 1}, environ={})


# ---- pyproject.toml ----


def test_pyproject_is_found_in_a_parent(project: Path) -> None:
    configure(project, workers=7)
    deep = project / "src" / "package"
    deep.mkdir(parents=True)

    assert resolve({}, environ={}, directory=deep).workers == 7


def test_the_nearest_pyproject_with_a_table_is_the_one(project: Path) -> None:
    configure(project, workers=7)
    inner = project / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[project]\nname = 'no table here'\n")
    assert resolve({}, environ={}, directory=inner).workers == 7

    configure(inner, default_retry=1)
    settings = resolve({}, environ={}, directory=inner)
    assert (settings.workers, settings.default_retry) == (0, 1)


def test_a_path_in_pyproject_starts_beside_it_wherever_the_command_was_started(project: Path) -> None:
    configure(project, db_path="data/jobs.db")
    deep = project / "deep"
    deep.mkdir()

    assert resolve({}, environ={}, directory=deep).storage.db_path == str(project / "data" / "jobs.db")


def test_a_relative_path_is_fixed_when_the_settings_are_resolved(project: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(project)
    settings = resolve({}, environ={})

    monkeypatch.chdir("/")

    assert settings.storage.db_path == str(project / ".taskito" / "taskito.db")


@pytest.mark.parametrize("path", [":memory:", "file:jobs.db?mode=ro"])
def test_names_that_are_not_paths_are_left_alone(path: str) -> None:
    assert resolve({"db_path": path}, environ={}).storage.db_path == path


def test_somebody_elses_broken_pyproject_is_none_of_our_business(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.black\nline-length = ")

    assert resolve({}, environ={}, directory=project).workers == 0


def test_a_broken_pyproject_that_mentions_us_is_an_error_that_names_it(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.taskito]\nworkers = ")

    with pytest.raises(ConfigError, match=str(project / "pyproject.toml")):
        resolve({}, environ={}, directory=project)


def test_the_table_must_be_a_table(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool]\ntaskito = 3\n")

    with pytest.raises(ConfigError, match="must be a table, got 3"):
        project_table(project)


def test_a_misspelt_key_in_pyproject_is_refused_with_the_right_one(project: Path) -> None:
    configure(project, db_ulr="sqlite:///x")

    with pytest.raises(ConfigError, match="no key 'db_ulr'; did you mean 'db_url'"):
        resolve({}, environ={}, directory=project)


def test_keys_of_commands_and_plugins_are_left_alone(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        "[tool.taskito]\napp = 'a:q'\ngraceful_timeout = 3\n[tool.taskito.worker]\nprocs = 2\n"
    )

    assert resolve({}, environ={}, directory=project).workers == 0


# ---- what the values may be ----

REFUSED = [
    ("workers", -1, "a whole number of 0 or more"),
    ("workers", 1.5, "a whole number"),
    ("workers", True, "a whole number"),
    ("workers", "many", "a whole number"),
    ("workers", None, "a whole number"),
    ("workers", 2**40, "a whole number"),
    ("default_retry", -1, "0 or more"),
    ("max_crashes", -1, "0 or more"),
    ("default_timeout", -0.1, "a number of seconds"),
    ("default_timeout", float("nan"), "a number of seconds"),
    ("default_timeout", float("inf"), "a number of seconds"),
    ("default_timeout", "soon", "a number of seconds"),
    ("default_timeout", True, "a number of seconds"),
    ("default_priority", 2**31, "32 bits"),
    ("default_priority", 1.0, "a whole number"),
    ("result_ttl", -1, "a number of seconds"),
    ("result_ttl", float("nan"), "a number of seconds"),
    ("result_ttl", "nan", "a number of seconds"),
    ("result_ttl", 1e12, "a number of seconds"),
    ("backend", "", "the name of a storage backend"),
    ("backend", None, "the name of a storage backend"),
    ("db_url", 5, "a database URL"),
    ("db_url", "  ", "a database URL"),
    ("db_path", "", "the path of a file"),
    ("db_path", b"x", "the path of a file"),
    ("db_path", "a\0b", "the path of a file"),
    ("schema", None, "the name of a schema"),
    ("pool_size", 0, "1 or more"),
    ("pool_size", "x", "1 or more"),
    ("auto_migrate", "perhaps", "true or false"),
    ("auto_migrate", 2, "true or false"),
    ("auto_migrate", None, "true or false"),
    ("durability", "maybe", "'power' or 'process'"),
    ("plugins", 5, "a list of plugin names"),
    ("plugins", [""], "a list of plugin names"),
    ("limiter", object(), "the name or URL of a rate limiter"),
    ("breaker", 1, "the name or URL of a circuit breaker"),
    ("metrics", [], "the name or URL of a metrics sink"),
    ("max_payload", 0, "a whole number of bytes"),
    ("max_payload", 2**30, "a whole number of bytes"),
]


@pytest.mark.parametrize(("name", "value", "expected"), REFUSED)
def test_what_makes_no_sense_is_refused_with_value_origin_and_what_would_be_right(
    name: str, value: object, expected: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolve({name: value}, environ={})

    message = str(refusal.value)
    assert message.startswith(f"{name} must be ")
    assert expected in message
    assert f"got {value!r} from the argument {name}" in message


def test_a_refused_variable_and_a_refused_key_are_named(project: Path) -> None:
    with pytest.raises(ConfigError, match="got 'x' from the environment variable TASKITO_WORKERS"):
        resolve({}, environ={"TASKITO_WORKERS": "x"})

    configure(project, workers="x")
    with pytest.raises(ConfigError, match=r"got 'x' from \[tool.taskito\] in .*pyproject.toml"):
        resolve({}, environ={}, directory=project)


@pytest.mark.parametrize("text", ["1", "true", "TRUE", " yes ", "On"])
def test_words_that_mean_true(text: str) -> None:
    assert resolve({}, environ={"TASKITO_AUTO_MIGRATE": text}).auto_migrate is True


@pytest.mark.parametrize("text", ["0", "false", "No", "OFF"])
def test_words_that_mean_false(text: str) -> None:
    assert resolve({}, environ={"TASKITO_AUTO_MIGRATE": text}).auto_migrate is False


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("90", 90.0), ("0.5", 0.5), (".5", 0.5), ("250ms", 0.25), ("10s", 10.0)],
        *[("5m", 300.0), ("2 h", 7200.0), ("1d", 86400.0), ("0", 0.0)],
    ],
)
def test_durations_as_text(text: str, seconds: float) -> None:
    assert resolve({}, environ={"TASKITO_RESULT_TTL": text}).result_ttl == seconds


@pytest.mark.parametrize("text", ["none", "None"])
def test_the_word_none_in_the_environment_means_none(text: str) -> None:
    assert resolve({}, environ={"TASKITO_RESULT_TTL": text}).result_ttl is None


# ---- the URL and the backend ----


@pytest.mark.parametrize(
    ("url", "backend"),
    [("postgresql://h/d", "postgresql"), ("POSTGRES://h/d", "postgres"), ("sqlite:///x", "sqlite")],
)
def test_a_url_without_a_backend_chooses_it_by_its_scheme(url: str, backend: str) -> None:
    settings = resolve({}, environ={"TASKITO_DB_URL": url})

    assert settings.backend == backend
    assert settings.origins["backend"] == Origin(Source.ENVIRONMENT, "TASKITO_DB_URL")


def test_a_backend_that_was_said_stays_said_beside_a_url() -> None:
    assert resolve({"backend": "postgres", "db_url": "host=h dbname=d"}, environ={}).backend == "postgres"


def test_a_url_without_a_scheme_needs_a_backend_and_its_password_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="no scheme that selects a backend") as refusal:
        resolve({"db_url": "host=h password=hunter2"}, environ={})

    assert "hunter2" not in str(refusal.value)


def test_neither_repr_nor_errors_show_a_password() -> None:
    settings = resolve({"db_url": "postgresql://u:hunter2@h/d", "limiter": "redis://:hunter2@h"}, environ={})

    assert "hunter2" not in repr(settings)
    assert settings.storage.db_url == "postgresql://u:hunter2@h/d"


def test_settings_cannot_be_changed() -> None:
    settings = resolve({}, environ={})

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.workers = 3  # type: ignore[misc]


def test_a_storage_config_carries_what_a_backend_must_know() -> None:
    settings = resolve(
        {"backend": "postgres", "db_url": "postgresql://h/d", "schema": "s", "pool_size": 3}
        | {"auto_migrate": False, "durability": "process"},
        environ={},
    )

    config = settings.storage
    assert (config.backend, config.db_url, config.schema) == ("postgres", "postgresql://h/d", "s")
    assert (config.pool_size, config.auto_migrate, config.durability) == (3, False, "process")


def test_settings_with_equal_values_are_equal_wherever_they_came_from() -> None:
    assert resolve({"workers": 2}, environ={}) == resolve({}, environ={"TASKITO_WORKERS": "2"})
    assert isinstance(resolve({}, environ={}), Settings)


def test_a_misspelt_variable_is_refused_and_other_programs_are_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the variable TASKITO_DBURL; did you mean TASKITO_DB_URL"):
        resolve({}, environ={"TASKITO_DBURL": "postgresql://h/d"}, directory=tmp_path)

    others = ("TASKITO_TEST_POSTGRES_URL", "TASKITO_WORKER_PROCS", "TASKITO_SERVICE_PORT", "TASKITO_VERSION")
    assert resolve({}, environ=dict.fromkeys(others, "x"), directory=tmp_path).db_url is None
