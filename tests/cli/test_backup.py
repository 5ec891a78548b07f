"""``taskito backup``: a copy under load, which is whole or is not there."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito import JobStatus, Queue
from tests.cli.conftest import Run, environment

#: Enqueues, and says how many jobs are stored, until it is killed.
PRODUCER = """
import myapp
while True:
    for job in myapp.send.map(["x" * 200] * 20):
        print(job.id, flush=True)
"""


@pytest.fixture
def producers(project: Path, wait_until: WaitUntil) -> Iterator[list[Path]]:
    """Two processes that never stop enqueuing; the files with the ids of what is stored."""
    journals = [project / "first", project / "second"]
    started = []
    for journal in journals:
        with journal.open("wb") as out:
            command = [sys.executable, "-c", PRODUCER]
            env = environment(PYTHONPATH=str(project), PYTHONSAFEPATH="")
            started.append(subprocess.Popen(command, cwd=project, env=env, stdout=out))
    try:
        wait_until(lambda: all(len(_ids(journal)) > 200 for journal in journals))
        yield journals
        assert [process.poll() for process in started] == [None, None]
    finally:
        for process in started:
            process.kill()
            process.wait()


def _ids(journal: Path) -> list[str]:
    return [line for line in journal.read_text().split("\n")[:-1] if line]


def test_a_backup_under_load_ends_and_has_all_that_was_stored_before(
    taskito: Run, project: Path, producers: list[Path]
) -> None:
    before = [job_id for journal in producers for job_id in _ids(journal)]

    done = taskito("backup", "--app", "myapp:queue", "copy.db")

    assert (done.returncode, done.stdout) == (0, "copy.db\n"), done.stderr
    with closing(sqlite3.connect(project / "copy.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Queue(db_path=str(project / "copy.db")) as queue:
        rows = queue.storage.get(before)
        assert {job.id for job in rows} == set(before)
        assert {job.status for job in rows} == {JobStatus.PENDING}
        assert queue.enqueue("myapp.add", (1, 2)).id not in before


@pytest.mark.parametrize("words", [["BEGIN", "SELECT count(*) FROM taskito_schema", ".backup copy.db"]])
def test_s89_the_shells_own_backup_ends_under_load_inside_a_transaction(
    project: Path, producers: list[Path], words: list[str]
) -> None:
    before = [job_id for journal in producers for job_id in _ids(journal)]

    command = ["sqlite3", ".taskito/taskito.db", *words]
    subprocess.run(command, cwd=project, check=True, timeout=30, capture_output=True)

    with Queue(db_path=str(project / "copy.db")) as queue:
        assert len(queue.storage.get(before)) == len(before)


def test_the_copy_is_readable_by_whom_the_database_is(taskito: Run, project: Path) -> None:
    taskito("migrate")
    os.chmod(project / ".taskito" / "taskito.db", 0o640)

    assert taskito("backup", str(project / "copy.db")).returncode == 0

    assert stat.S_IMODE((project / "copy.db").stat().st_mode) == 0o640
    assert sorted(path.name for path in project.iterdir()) == [".taskito", "copy.db", "myapp.py"]


def test_a_target_that_exists_is_left_as_it_is(taskito: Run, project: Path) -> None:
    taskito("migrate")
    (project / "copy.db").write_text("precious")

    done = taskito("backup", "copy.db")
    itself = taskito("backup", ".taskito/taskito.db")

    assert done.returncode == itself.returncode == 2
    assert "copy.db exists" in done.stderr
    assert (project / "copy.db").read_text() == "precious"


def test_a_target_that_cannot_be_written_is_named(taskito: Run, project: Path) -> None:
    taskito("migrate")

    done = taskito("backup", "nowhere/copy.db")

    assert done.returncode == 2
    assert "nowhere/copy.db: No such file or directory" in done.stderr


def test_nothing_is_made_where_there_is_no_database(taskito: Run, project: Path) -> None:
    done = taskito("backup", "copy.db")

    assert done.returncode == 2
    assert "nothing to back up" in done.stderr
    assert [path.name for path in project.iterdir()] == ["myapp.py"]


def test_a_damaged_database_gives_no_copy(taskito: Run, project: Path) -> None:
    taskito("migrate")
    database = project / ".taskito" / "taskito.db"
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)

    done = taskito("backup", "copy.db")

    assert done.returncode == 1, done.stderr
    assert sorted(path.name for path in project.iterdir()) == [".taskito", "myapp.py"]


def test_another_store_is_left_to_its_own_tools(taskito: Run, new_postgres_url: Callable[[], str]) -> None:
    done = taskito("backup", "copy.db", TASKITO_DB_URL=new_postgres_url())

    assert done.returncode == 2
    assert "pg_dump" in done.stderr
