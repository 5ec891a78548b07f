"""Making a Queue: what is given wins, everything is checked, nothing is opened."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskito import ConfigError, JsonSerializer, Queue

POSITIONAL = [
    *("db_path", "workers", "default_retry", "default_timeout", "default_priority", "result_ttl"),
    *("serializer", "middleware", "backend", "db_url", "schema"),
]
BY_NAME = [
    *("pool_size", "auto_migrate", "durability", "plugins", "limiter", "breaker", "metrics", "max_payload"),
    *("max_crashes", "unreadable_ttl"),
]


def test_the_arguments_are_in_their_documented_order() -> None:
    parameters = list(inspect.signature(Queue).parameters.values())

    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == POSITIONAL
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == BY_NAME


def test_constructing_opens_and_creates_nothing(tmp_path: Path) -> None:
    Queue(tmp_path / "deep" / "jobs.db")
    Queue(backend="postgres", db_url="postgresql://nobody:pw@192.0.2.1:1/x?connect_timeout=60")

    assert list(tmp_path.iterdir()) == []


def test_constructing_imports_no_driver_and_no_event_loop() -> None:
    program = """
import sys
from taskito import Queue
Queue(); Queue(backend="postgresql", db_url="postgresql://h/d")
print(sorted({"asyncio", "sqlite3", "psycopg", "psycopg_pool", "pickle", "zoneinfo"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("word", ["postgres", "postgresql", "PostgreSQL"])
def test_every_spelling_of_postgres_is_the_same_backend(word: str) -> None:
    queue = Queue(backend=word, db_url="postgresql://h/d")

    assert queue.storage_config.backend == "postgres"


def test_an_argument_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKITO_DEFAULT_RETRY", "7")
    monkeypatch.setenv("TASKITO_DEFAULT_PRIORITY", "5")

    settings = Queue(default_retry=0).settings

    assert (settings.default_retry, settings.default_priority, settings.default_timeout) == (0, 5, 300.0)


def test_explicit_none_and_zero_are_something_said() -> None:
    settings = Queue(default_timeout=None, default_retry=0, result_ttl=None, workers=0).settings

    assert (settings.default_timeout, settings.default_retry, settings.result_ttl) == (0.0, 0, None)
    assert Queue(result_ttl=timedelta(days=1)).settings.result_ttl == 86400.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backend": "oracle"}, "oracle"),
        ({"backend": "postgres"}, "db_url"),
        ({"backend": "sqlite", "db_url": "postgresql://h/d"}, "contradicts"),
        ({"workers": -1}, "workers"),
        ({"workers": True}, "workers"),
        ({"default_retry": -1}, "default_retry"),
        ({"default_timeout": float("nan")}, "default_timeout"),
        ({"default_timeout": -0.1}, "default_timeout"),
        ({"default_priority": 1.5}, "default_priority"),
        ({"result_ttl": -1}, "result_ttl"),
        ({"durability": "hope"}, "durability"),
        ({"pool_size": 0}, "pool_size"),
        ({"max_payload": 0}, "max_payload"),
        ({"db_path": ""}, "db_path"),
        ({"serializer": JsonSerializer}, "got a class; write JsonSerializer"),
        ({"serializer": object()}, "dumps and loads"),
        ({"middleware": [object()]}, "middleware"),
    ],
)
def test_whatever_is_wrong_is_a_config_error_at_once(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Queue(**wrong)

    assert said in str(caught.value)


def test_a_queue_never_shows_its_password() -> None:
    queue = Queue(db_url="postgresql://me:hunter2@h/d")

    assert "hunter2" not in repr(queue) + repr(queue.settings)
    assert "h/d" in repr(queue)


def test_closing_is_idempotent_and_using_it_again_opens_it_again(backend_url: str) -> None:
    queue = Queue(db_url=backend_url)
    queue.close()
    with queue:
        first = queue.storage
        queue.enqueue("some.task")
    queue.close()

    assert queue.stats()["pending"] == 1
    assert queue.storage is not first
    queue.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # pytest-timeout has a thread
def test_a_forked_child_opens_a_store_of_its_own(backend_url: str) -> None:
    with Queue(db_url=backend_url) as queue:
        queue.enqueue("from.parent")
        read, write = os.pipe()
        if not (pid := os.fork()):
            try:
                job = queue.enqueue("from.child")
                os.write(write, job.id.encode())
                queue.close()
            finally:
                os._exit(0)
        os.close(write)
        child_id = os.read(read, 100).decode()
        os.close(read)
        os.waitpid(pid, 0)

        queue.enqueue("from.parent.again")

        names = {job.to_dict()["task_name"] for job in queue.list_jobs()}
        assert names == {"from.parent", "from.child", "from.parent.again"}
        assert queue.get_job(child_id) is not None
