"""A backup is restored with PostgreSQL's own tools while producers and workers are there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from taskito_core import ConfigError, StorageError, StorageUnavailable
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, make_worker, want

from .conftest import OpenStorage

pytestmark = pytest.mark.skipif(
    shutil.which("pg_dump") is None or shutil.which("pg_restore") is None,
    reason="pg_dump and pg_restore are not on the PATH",
)

SECTIONS = ("pre-data", "data", "post-data")

#: What a producer, a caller of ``result()``, a worker and a command do.
CALLS: tuple[Callable[[PostgresStorage], object], ...] = (
    lambda storage: storage.enqueue([make_job()]),
    lambda storage: storage.enqueue([make_job(), make_job()]),
    lambda storage: storage.counts(),
    lambda storage: storage.register(make_worker()),
    lambda storage: storage.sweep(10),
)


def dump(url: str, directory: Path) -> Path:
    """A backup of the schema."""
    target = directory / "backup"
    subprocess.run(["pg_dump", "-Fc", "-n", "taskito", "-f", str(target), url], check=True)
    return target


def restore(url: str, backup: Path, *options: str) -> None:
    subprocess.run(["pg_restore", "-d", url, *options, str(backup)], check=True)


def test_one_that_starts_while_a_backup_is_restored_is_told_to_wait(
    open_storage: OpenStorage, new_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    source = open_storage()
    [receipt] = source.enqueue([make_job()])
    assert source.config.db_url is not None
    backup, target = dump(source.config.db_url, tmp_path), new_postgres_url()

    for section in SECTIONS[:-1]:
        restore(target, backup, f"--section={section}")
        for auto_migrate in (True, False):
            for call in (*CALLS, PostgresStorage.migrate, PostgresStorage.pending_migrations):
                with pytest.raises(StorageUnavailable, match="restored"):
                    call(open_storage(target, auto_migrate=auto_migrate))
    restore(target, backup, f"--section={SECTIONS[-1]}")

    storage = open_storage(target, auto_migrate=False)
    assert [job.id for job in storage.get([receipt.id])] == [receipt.id]
    assert storage.enqueue([make_job()])[0].inserted


def test_one_that_is_at_work_finds_the_store_unavailable_until_it_is_restored(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any], tmp_path: Path
) -> None:
    running = enqueue_and_claim(storage, worker_id)
    [waiting] = storage.enqueue([make_job()])
    assert storage.config.db_url is not None
    backup = dump(storage.config.db_url, tmp_path)
    database.execute("DROP SCHEMA taskito CASCADE")

    def everything_waits() -> None:
        for call in (
            lambda storage: storage.exchange(worker_id, [complete(running)], want(1)),
            lambda storage: storage.heartbeat(worker_id, []),
            lambda storage: storage.await_finished(running.id, 0.1),
            *CALLS[:1],
        ):
            with pytest.raises(StorageUnavailable) as caught:
                call(storage)
            assert isinstance(caught.value.__cause__, psycopg.Error)

    everything_waits()
    database.execute("CREATE SCHEMA taskito")
    everything_waits()
    restore(storage.config.db_url, backup, "--clean", "--if-exists")

    assert storage.exchange(worker_id, [complete(running)], None).recorded == {running.id}
    assert [each.id for each in claim(storage, worker_id, 5)] == [waiting.id]
    assert storage.enqueue([make_job()])[0].inserted


def test_a_table_of_the_users_own_in_the_way_is_no_restore(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    database.execute("CREATE SCHEMA taskito; CREATE TABLE taskito.jobs (id int)")

    with pytest.raises(StorageError) as caught:
        open_storage().enqueue([make_job()])

    assert not isinstance(caught.value, (StorageUnavailable, ConfigError))
