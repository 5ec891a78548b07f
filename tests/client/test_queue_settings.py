"""Promises S8-S10, S12-S16, S31-S32 and S92: what a Queue makes of its settings, without a server."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito import ConfigError, Queue
from taskito.client.load_app import load_app
from taskito.client.manifest import manifest_of
from taskito.config.settings import available_cpus

BACKENDS = {
    "sqlite": {},
    "postgres": {"backend": "postgres", "db_url": "postgresql://u:hunter2@127.0.0.1:1/d"},
}
both_backends = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Something that would notice a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def make(backend: str, **settings: object) -> Queue:
    return Queue(**{**BACKENDS[backend], **settings})  # type: ignore[arg-type]


# ---- S8: constructing is free ----


def test_s8_constructing_a_queue_and_its_tasks_opens_no_connection(listener: socket.socket) -> None:
    queue = Queue(backend="postgres", db_url=f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/d")

    @queue.task
    def work() -> None: ...

    manifest_of(queue, "app:queue")
    repr(queue)
    queue.close()

    with pytest.raises(BlockingIOError):
        listener.accept()


def test_s8_constructing_a_queue_makes_no_file() -> None:
    queue = Queue()
    queue.close()

    assert os.listdir() == []


def test_s8_importing_an_app_does_not_fail_because_the_server_is_down(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from taskito import Queue\n"
        "queue = Queue(backend='postgres', db_url='postgresql://u@127.0.0.1:1/d')\n"
        "@queue.task\ndef work(): ...\n"
    )

    done = subprocess.run([sys.executable, "-c", "import app"], capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


# ---- S9: the backend's name ----


@pytest.mark.parametrize("name", ["postgres", "postgresql", "Postgres", "PostgreSQL", "POSTGRESQL"])
def test_s9_both_spellings_in_any_case_mean_postgres(name: str) -> None:
    queue = Queue(backend=name, db_url="postgresql://h/d")

    assert queue.storage_config.backend == "postgres"


@pytest.mark.parametrize("name", ["sqlite", "SQLite"])
def test_s9_sqlite_is_the_default_and_has_a_name(name: str) -> None:
    assert Queue().storage_config == Queue(backend=name).storage_config


@pytest.mark.parametrize("name", ["mysql", "postgress", "none", "redis://h"])
def test_s9_any_other_name_is_answered_with_the_installed_backends(name: str) -> None:
    with pytest.raises(ConfigError, match=r"storage backend .* \(installed: (memory, )?postgres, sqlite\)"):
        Queue(backend=name)


def test_s9_a_backend_that_is_not_installed_is_answered_with_the_line_that_installs_it() -> None:
    program = "from taskito import Queue; Queue(backend='postgres', db_url='postgresql://h/d')"

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TASKITO_LOAD_PLUGINS": "sqlite"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "ConfigError" in done.stderr
    assert "pip install taskito-postgres" in done.stderr


def test_a_url_alone_selects_its_backend() -> None:
    assert Queue(db_url="postgresql://h/d").storage_config.backend == "postgres"
    assert Queue(db_url="sqlite:////tmp/x.db").storage_config.backend == "sqlite"


def test_a_backend_that_contradicts_the_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="contradicts"):
        Queue(backend="sqlite", db_url="postgresql://h/d")
    with pytest.raises(ConfigError, match="contradicts"):
        Queue(backend="postgres", db_url="sqlite:///x")


# ---- S10: the URL and its password ----


def test_s10_postgres_without_a_url_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigError, match=r"needs a db_url,? such as .*postgresql://.*TASKITO_DB_URL"):
        Queue(backend="postgres")


BAD_URLS = [
    "postgresql://u:hunter2@h:port/d",
    "postgresql://u:hunter2/x@h/d",
    "postgresql://u:hunter2@h:99999/d",
    "postgresql://u:hunter2@[h/d",
    "mysql://u:hunter2@h/d",
    "host=h password=hunter2 dbname=d",
    "postgresql://h:port/d?password=hunter2",
    "postgresql//u:hunter2@h/d",
]


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("backend", [{}, {"backend": "postgres"}, {"backend": "sqlite"}])
def test_s10_no_error_about_a_url_shows_its_password(url: str, backend: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        Queue(db_url=url, **backend)  # type: ignore[arg-type]

    error: BaseException | None = refusal.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__


def test_s10_no_representation_of_a_queue_shows_its_password() -> None:
    queue = make("postgres")

    for shown in (repr(queue), repr(queue.settings), queue.plugins.describe(queue.storage_config)):
        assert "hunter2" not in shown
        assert "127.0.0.1" in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hun@ter2@h/d",
        "postgresql://u:hunter2?x=1@h/d",
        "postgresql://u@h/d?password=a&hunter2",
        "postgresql://u@h/d?password=a@hunter2",
        "postgresql://u@h/d?pass%77ord=hunter2",
        "postgresql:/u:hunter2@h/d",
    ],
)
def test_s10_an_odd_url_is_refused_or_shown_without_its_password(url: str) -> None:
    try:
        shown = repr(Queue(backend="postgres", db_url=url))
    except ConfigError as refusal:
        shown = str(refusal)

    assert "ter2" not in shown


def test_s10_an_unreachable_server_is_reported_without_the_password() -> None:
    from taskito import StorageUnavailable

    queue = make("postgres")
    with pytest.raises(StorageUnavailable) as failure:
        queue.stats()
    queue.close()

    assert "hunter2" not in str(failure.value)
    assert "127.0.0.1" in str(failure.value)


# ---- S12: workers ----


@both_backends
def test_s12_workers_is_0_and_means_the_cpus_this_process_may_use(backend: str) -> None:
    assert make(backend).settings.workers == 0
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


# ---- S13-S16: defaults of every job ----

DEFAULTS = [
    ("default_retry", 3, 7, "max_retries"),
    ("default_timeout", 300.0, 60.0, "timeout"),
]


@both_backends
@pytest.mark.parametrize(("setting", "default", "other", "attribute"), DEFAULTS)
def test_s13_s14_defaults_apply_to_decorated_tasks_and_a_zero_is_a_value(
    setting: str, default: float, other: float, attribute: str, backend: str
) -> None:
    def policy_of(queue: Queue, **options: float) -> float:
        def work() -> None: ...

        queue.task(name="t", **options)(work)  # type: ignore[call-overload]

        policy = manifest_of(queue, "a:q").tasks["t"]
        found: float = policy.retry.max_retries if attribute == "max_retries" else policy.timeout
        return found

    assert policy_of(make(backend)) == default
    assert policy_of(make(backend, **{setting: other})) == other
    assert policy_of(make(backend, **{setting: 0})) == 0
    assert policy_of(make(backend, **{setting: other}), **{attribute: 0}) == 0
    assert policy_of(make(backend, **{setting: 0}), **{attribute: 1}) == 1


# ---- S31-S32: names of schemas ----

GOOD_SCHEMAS = ["a", "taskito", "MyTasks", "my_tasks_2", "_", "1abc", "select", "user", "x" * 63]
BAD_SCHEMAS = ["", "a-b", "a;b", "a b", 'a"b', "a.b", "é", "x" * 64, "pg_mine", "information_schema", "a\n"]


@pytest.mark.parametrize("schema", GOOD_SCHEMAS)
def test_s31_names_of_letters_digits_and_underscores_are_taken(schema: str) -> None:
    assert make("postgres", schema=schema).storage_config.schema == schema


@pytest.mark.parametrize("schema", BAD_SCHEMAS)
def test_s32_any_other_name_is_refused_at_start_up_with_the_reason(schema: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        make("postgres", schema=schema)

    assert "schema" in str(refusal.value)
    assert repr(schema) in str(refusal.value)


# ---- S92: the app ----


def test_s92_an_app_in_the_current_directory_is_found_and_every_queue_it_names_reported(
    tmp_path: Path,
) -> None:
    (tmp_path / "an_app.py").write_text(
        "from taskito import Queue\n"
        "queue = Queue()\n"
        "@queue.task\ndef one(): ...\n"
        "@queue.task(queue='mail')\ndef two(): ...\n"
        "@queue.task(queue='reports')\ndef three(): ...\n"
    )
    program = """
from taskito.client.load_app import load_app
from taskito.client.manifest import manifest_of
print(manifest_of(load_app("an_app:queue"), "an_app:queue").queues)
"""

    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == ("default", "mail", "reports")


def test_s92_a_name_that_is_no_app_is_answered_with_what_would_be_right() -> None:
    with pytest.raises(ConfigError, match="module:attribute"):
        load_app("myapp")


@pytest.mark.parametrize("setting", ["limiter", "breaker", "metrics"])
def test_a_gatekeeper_nobody_offers_is_refused_when_the_queue_is_made(setting):
    with pytest.raises(ConfigError, match=r"no installed plugin offers the .* 'nothing'"):
        Queue(**{setting: "nothing"})
