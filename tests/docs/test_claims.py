"""Claims of the documentation that no other test drives: what is installed, served and shown."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from conftest import WaitUntil
from taskito import Queue
from tools import documents

SECRET = "hunter2"
APP = """
from taskito import Queue
queue = Queue()

@queue.task
def one(): return "default"

@queue.task(queue="mail")
def two(): return "mail"
"""


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_s3_on_postgresql_a_producer_does_not_wait_for_the_transaction_of_another(postgres_url: str) -> None:
    with Queue(db_url=postgres_url) as queue, psycopg.connect(postgres_url) as other:
        first = queue.enqueue("mail.send")
        within = queue.enqueue("mail.send", connection=other)

        beside = queue.enqueue("mail.send")

        assert [job.id for job in queue.list_jobs()] == [beside.id, first.id]
        other.commit()
        assert queue.get_job(within.id) is not None


def test_s5_sqlite_needs_nothing_but_the_core_and_the_standard_library() -> None:
    plugin = documents.ROOT / "plugins" / "taskito_sqlite"
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    needed = {name for path in plugin.rglob("*.py") for name in imported(path)}

    assert [one.partition(">")[0] for one in project["dependencies"]] == ["taskito-core"]
    assert needed - sys.stdlib_module_names == {"taskito_core", "taskito_sqlite"}
    assert "sqlite3" in needed


def test_s35_pools_are_as_large_as_documented_unless_a_setting_says_otherwise() -> None:
    from taskito_postgres.connection import DEFAULT_POOL_SIZE
    from taskito_sqlite.base import POOL_SIZE

    assert (DEFAULT_POOL_SIZE, POOL_SIZE) == (10, 8)
    assert "| 10 on PostgreSQL, 8 on SQLite |" in documents.pages()["docs/configuration.md"]


@contextlib.contextmanager
def worker(directory: Path, *arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """``taskito worker`` as typed in ``directory``; its process, and the file of all it writes."""
    (directory / "myapp.py").write_text(APP)
    command = [str(Path(sys.executable).with_name("taskito")), "worker", "--app", "myapp:queue", *arguments]
    log = directory / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--procs", "1"],
            cwd=directory,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process, log
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_s97_an_idle_worker_asks_the_server_for_next_to_nothing(
    postgres_url: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    with (
        Queue(db_url=postgres_url) as queue,
        worker(tmp_path, TASKITO_DB_URL=postgres_url),
        psycopg.connect(postgres_url) as looking,
    ):
        assert queue.enqueue("myapp.one").result(40) == "default"

        # In one transaction, of which each statement sees what is there by then.
        def ask(statement: LiteralString) -> int:
            looking.execute("SELECT pg_stat_clear_snapshot()")
            row = looking.execute(statement).fetchone()
            assert row is not None
            return int(row[0])

        beat = ask("SELECT max(beat) FROM taskito.workers")
        # Three beats, because the server counts some transactions of a session up to ten seconds late.
        wait_until(lambda: ask("SELECT max(beat) FROM taskito.workers") > beat + 2, 60)
        before = ask("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        wait_until(lambda: ask("SELECT max(beat) FROM taskito.workers") > beat + 4, 60)
        after = ask("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")

    # Two beats are ten seconds. A worker that polled ten times a second would need a hundred.
    assert after - before < 40


def test_s92_a_worker_serves_every_queue_of_an_app_in_the_current_directory(tmp_path: Path) -> None:
    with worker(tmp_path) as (process, log), Queue(str(tmp_path / ".taskito" / "taskito.db")) as queue:
        jobs = [queue.enqueue("myapp.one"), queue.enqueue("myapp.two", queue="mail")]
        assert [job.result(40) for job in jobs] == ["default", "mail"], log.read_text()

    assert process.returncode == 0


def titles() -> str:
    """Command lines and titles of all processes but those that run tests, whose names have this password."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return b"\n".join(one for one in found if not one.startswith(b"[pytest-xdist")).decode(errors="replace")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="titles of processes are read from /proc")
def test_s10_a_worker_shows_no_password_in_banner_log_title_or_command_line(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:1/db"  # Nobody listens there: errors must keep it, too.

    with worker(tmp_path, "--boot-timeout", "5", TASKITO_DB_URL=url) as (process, log):
        wait_until(lambda: "does not answer" in log.read_text(), 30, "it has tried the store")
        seen = titles()
        assert process.wait(30) == 4

    assert "taskito: supervisor myapp:queue" in seen
    assert SECRET not in seen
    assert "postgresql://me:***@127.0.0.1:1/db" in log.read_text()
    assert SECRET not in log.read_text()
