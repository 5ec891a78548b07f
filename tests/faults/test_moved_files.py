"""The SQLite file is deleted, moved away or replaced under a worker and producers that have it open."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from taskito import Queue
from taskito_core.errors import StorageUnavailable
from tests.faults.harness import wait_until

SAID = "nothing more goes there"


@pytest.fixture
def backend_url(tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    return f"sqlite:///{tmp_path}/data/jobs.db"


def delete_all(database: Path) -> None:
    for path in sorted(database.parent.glob("jobs.db*")):
        path.unlink()


def delete_the_database_alone(database: Path) -> None:
    database.unlink()


def move_the_database_alone(database: Path) -> None:
    database.rename(database.with_name("away.db"))


def move_the_directory(database: Path) -> None:
    database.parent.rename(database.parent.with_name("elsewhere"))


def delete_the_directory(database: Path) -> None:
    shutil.rmtree(database.parent)


GONE = (
    delete_all,
    delete_the_database_alone,
    move_the_database_alone,
    move_the_directory,
    delete_the_directory,
)


def replace_by_a_copy(database: Path) -> None:
    copy = database.with_name("copy.db")
    with closing(sqlite3.connect(database)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    copy.rename(database)


def delete_the_log(database: Path) -> None:
    database.with_name("jobs.db-wal").unlink()


def delete_the_index(database: Path) -> None:
    database.with_name("jobs.db-shm").unlink()


STILL_THERE = (replace_by_a_copy, delete_the_log, delete_the_index)


def stored_now(app, number: int):
    """So many jobs whose storing was acknowledged, and how many calls were refused meanwhile."""
    jobs, refused = [], 0

    def stored() -> bool:
        nonlocal refused
        try:
            jobs.append(app.square.delay(len(jobs)))
        except StorageUnavailable:
            refused += 1
            return False
        return True

    for _ in range(number):
        wait_until(stored)
    return jobs, refused


def known(url: str, jobs) -> int:
    """How many of the jobs somebody who opens the store now finds."""
    with Queue(db_url=url) as anew:
        return len(anew.storage.get([job.id for job in jobs]))


@pytest.mark.parametrize("take_away", GONE)
def test_nothing_is_acknowledged_into_a_file_that_nobody_will_see(
    app, start_worker, backend_url: str, take_away: Callable[[Path], None]
) -> None:
    worker = start_worker(procs=2)
    assert app.square.delay(7).result(30) == 49

    take_away(Path(backend_url.removeprefix("sqlite:///")))
    jobs, refused = stored_now(app, 79)

    assert refused > 0
    assert known(backend_url, jobs) == 79
    assert [job.result(30) for job in jobs] == [number * number for number in range(79)]
    assert not worker.exited()
    assert worker.output().count(SAID) == 1


@pytest.mark.parametrize("take_away", STILL_THERE)
def test_what_is_at_the_path_is_opened_and_what_was_stored_before_is_there(
    app, start_worker, backend_url: str, take_away: Callable[[Path], None]
) -> None:
    worker = start_worker(procs=2)
    earlier = [app.square.delay(number) for number in range(20)]
    assert [job.result(30) for job in earlier] == [number * number for number in range(20)]

    take_away(Path(backend_url.removeprefix("sqlite:///")))
    jobs, _ = stored_now(app, 79)

    assert known(backend_url, [*earlier, *jobs]) == 99
    assert [job.result(30) for job in jobs] == [number * number for number in range(79)]
    assert worker.output().count(SAID) == 1
    with closing(sqlite3.connect(backend_url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_an_idle_worker_finds_out_by_itself_and_serves_what_is_at_the_path(
    app, start_worker, backend_url: str
) -> None:
    worker = start_worker(procs=1)
    assert app.square.delay(2).result(30) == 4

    delete_all(Path(backend_url.removeprefix("sqlite:///")))

    wait_until(lambda: SAID in worker.output(), 10, "the worker says it")
    wait_until(lambda: "the store answers again" in worker.output(), 10, "the worker is back")
    assert stored_now(app, 1)[0][0].result(30) == 0


def test_a_running_job_ends_and_the_next_ones_run(app, start_worker, backend_url: str) -> None:
    worker = start_worker(procs=1)
    app.nap.delay(2.0)
    worker.started(1)

    delete_the_database_alone(Path(backend_url.removeprefix("sqlite:///")))
    [job], _ = stored_now(app, 1)

    assert job.result(30) == 0
    assert not worker.exited()
