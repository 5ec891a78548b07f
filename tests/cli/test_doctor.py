"""``taskito doctor``: what it finds, and that it finds nothing where all is well."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito import Queue
from tests.cli.conftest import Run, environment
from tests.faults.harness import Worker

APP = "--app=myapp:queue"
HOUR = 3_600_000


@pytest.fixture
def url(backend_url: str) -> str:
    return backend_url


@contextmanager
def queue_at(url: str) -> Iterator[Queue]:
    backend = "sqlite" if url.startswith("sqlite") else "postgres"
    with Queue(backend=backend, db_url=url) as queue:
        yield queue


@contextmanager
def worker(project: Path, url: str) -> Iterator[Worker]:
    """One with one child, ended in good order."""
    made = Worker(url, project, "--procs", "1", app="myapp:queue")
    made.start()
    try:
        yield made.ready(1)
        made.signal(signal.SIGTERM)
        assert made.wait() == 0, made.output()
    finally:
        made.kill_everything()


def findings(taskito: Run, url: str, *, code: int) -> dict[str, dict[str, Any]]:
    """By what they say; both forms say the same."""
    told = taskito("doctor", APP, "--json", TASKITO_DB_URL=url)
    assert told.returncode == code, told.stdout + told.stderr
    found = {one["what"]: one for one in json.loads(told.stdout)["findings"]}
    assert all(one["why"] and one["mend"] for one in found.values())
    return found


def matching(found: dict[str, dict[str, Any]], pattern: str) -> dict[str, Any]:
    [one] = [finding for what, finding in found.items() if re.search(pattern, what)]
    return one


def test_where_nothing_is_there_it_says_so_and_makes_nothing(taskito: Run, project: Path) -> None:
    told = taskito("doctor", APP, TASKITO_DB_PATH="jobs.db")

    assert told.returncode == 1
    assert "WRONG: there is no database of taskito here" in told.stdout
    assert "what mends it:" in told.stdout
    assert not (project / "jobs.db").exists()


def test_where_all_is_well_nothing_is_wrong(taskito: Run, project: Path, url: str) -> None:
    with worker(project, url):
        told = taskito("doctor", APP, TASKITO_DB_URL=url)

    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "nothing is wrong"), told.stdout
    assert "WRONG" not in told.stdout


def test_jobs_that_wait_in_vain_are_named_with_what_mends_it(taskito: Run, project: Path, url: str) -> None:
    with queue_at(url) as queue:
        queue.enqueue("myapp.add", (1, 2))

        assert matching(findings(taskito, url, code=1), "^1 jobs are pending, and no worker is alive$")

        queue.enqueue("myapp.ad", (1, 2))
        queue.enqueue("myapp.send", ("you",), queue="mail")
        queue.pause("mail")
        with worker(project, url):
            found = findings(taskito, url, code=1)

    unknown = matching(found, "knows task 'myapp.ad'")
    assert "did you mean 'myapp.add'" in unknown["what"]
    assert not unknown["is_note"]
    assert "taskito jobs cancel --task myapp.ad," in unknown["mend"]
    paused = matching(found, "^queue 'mail' has been paused")
    assert (paused["mend"], paused["is_note"]) == ("taskito queues resume mail", True)
    assert not any("no worker is alive" in what for what in found)


def test_a_periodic_task_that_nobody_fires_is_wrong(
    taskito: Run, project: Path, url: str, wait_until: WaitUntil
) -> None:
    (project / "myapp.py").write_text(
        (project / "myapp.py").read_text()
        + "\n@queue.periodic('* * * * *', name='digest')\ndef digest():\n    pass\n"
    )
    with worker(project, url), queue_at(url) as queue:
        wait_until(queue.periodic_tasks, message="it is declared")
    _change(url, "UPDATE {}periodic_tasks SET next_run = next_run - 180000")

    late = matching(findings(taskito, url, code=1), "^periodic task 'digest' was due at .* and did not fire$")
    assert "taskito worker" in late["mend"]


def _change(url: str, statement: str) -> None:
    if url.startswith("sqlite"):
        import sqlite3

        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            database.execute(statement.format(""))
        database.close()
    else:
        with psycopg.connect(url) as connection:
            connection.execute(statement.format("taskito.").encode())


def test_a_clock_that_was_set_back_is_noted(taskito: Run, project: Path, url: str) -> None:
    with queue_at(url) as queue:
        queue.storage.clock_shift = HOUR
        job = queue.enqueue("myapp.add", (1, 2))
        queue.storage.clock_shift = 0
        with worker(project, url):
            assert job.result(30) == 3
            found = findings(taskito, url, code=0)

    note = matching(found, "^the store's clock was set back by")
    text = re.search(r"by (\d+):(\d+):([\d.]+) at", note["what"])
    assert text is not None
    hours, minutes, seconds = (float(part) for part in text.groups())
    by = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    assert timedelta(minutes=59) < by <= timedelta(hours=1)
    assert note["is_note"]


def test_a_worker_with_too_few_descriptors_is_named(taskito: Run, project: Path, url: str) -> None:
    with worker(project, url) as process:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (70, hard))

        few = matching(findings(taskito, url, code=1), "may open 70 files, and needs about 72$")

        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert few["mend"].startswith("ulimit -n 1024")


# ---- PostgreSQL ----


def test_what_makes_claims_slow_on_postgres_is_named(
    taskito: Run, new_postgres_url: Callable[[], str]
) -> None:
    url = new_postgres_url()
    assert taskito("migrate", APP, TASKITO_DB_URL=url).returncode == 0
    with psycopg.connect(url, application_name="report") as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM taskito.jobs")
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("ALTER TABLE taskito.jobs_live SET (autovacuum_enabled = false)")

        assert matching(findings(taskito, url, code=1), "^autovacuum of jobs_live is off$")

        shown = _examined_in_process(url)
        open_for_long = matching(
            shown, rf"^session {reader.info.backend_pid} \(report\) has had a transaction"
        )
        assert open_for_long["mend"] == f"SELECT pg_terminate_backend({reader.info.backend_pid})"


def _examined_in_process(url: str) -> dict[str, dict[str, Any]]:
    """With a patience of a tenth of a second instead of a minute."""
    program = (
        "import json, sys, taskito_postgres.storage as module\n"
        "from taskito import Queue\n"
        "module.LONG_TRANSACTION = 0.1\n"
        "with Queue(backend='postgres', db_url=sys.argv[1]) as queue:\n"
        "    print(json.dumps([one._asdict() for one in queue.storage.examine()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, url], env=environment(), capture_output=True, text=True, check=True
    )
    return {one["what"]: one for one in json.loads(done.stdout)}


def test_a_role_that_sees_only_its_own_is_told_so(taskito: Run, new_postgres_url: Callable[[], str]) -> None:
    url = new_postgres_url()
    assert taskito("migrate", APP, TASKITO_DB_URL=url).returncode == 0
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS examiner")
        admin.execute("CREATE ROLE examiner LOGIN PASSWORD 'x'")
        admin.execute("GRANT USAGE ON SCHEMA taskito TO examiner")
        admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA taskito TO examiner")
    try:
        found = findings(taskito, re.sub(r"//[^@/]*@", "//examiner:x@", url), code=0)
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("DROP OWNED BY examiner")
            admin.execute("DROP ROLE examiner")

    assert matching(found, "^this role does not see")["is_note"]


# ---- SQLite ----


def test_a_long_log_and_a_full_disk_are_named_on_sqlite(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import taskito_sqlite.storage as module

    monkeypatch.setattr(module, "LONG_LOG", 1000)
    monkeypatch.setattr(module, "LITTLE_ROOM", 2**60)
    with Queue(project / "jobs.db") as queue:
        queue.enqueue("myapp.add", (1, 2))
        assert isinstance(queue.storage, module.SqliteStorage)
        found = {one.what: one._asdict() for one in queue.storage.examine()}

    assert matching(found, "^the write-ahead log .*jobs.db-wal has")["mend"].endswith("jobs.db-wal")
    assert matching(found, "MB are left on the disk of .*jobs.db$")


@pytest.mark.parametrize(
    ("version", "resets_safely"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
    ],
)
def test_the_versions_of_sqlite_that_reset_their_log_safely_are_known(
    version: tuple[int, int, int], resets_safely: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import taskito_sqlite.storage as module

    monkeypatch.setattr(module.sqlite3, "sqlite_version_info", version)
    with Queue(project / "jobs.db") as queue:
        queue.enqueue("myapp.add", (1, 2))
        assert isinstance(queue.storage, module.SqliteStorage)
        found = [one.what for one in queue.storage.examine()]

    assert any("WAL-reset fault" in what for what in found) is not resets_safely
