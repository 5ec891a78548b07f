"""The schema: how it is made, what is in it, and that schemas do not see each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from taskito_core import ConfigError, Dead, DeadReason, Retention, StorageError, Want, columns
from taskito_postgres import migrate
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, error_info, make_job, make_worker, new_token, want

from .conftest import OpenStorage

TABLES = {
    "jobs", "dead_letter", "rate_limits", "periodic_tasks", "job_errors", "job_dependencies", "task_metrics",
    "replay_history", "task_logs", "circuit_breakers", "workers",
}  # fmt: skip
OUR_OWN = {
    "jobs_live",
    "jobs_done",
    "paused_queues",
    "schema_version",
    "clock",
    "retention",
    "last_calls",
    "queue_limits",
}


def rows(database: psycopg.Connection[Any], statement: str) -> list[tuple[Any, ...]]:
    return database.execute(statement.encode()).fetchall()


def test_the_schema_holds_the_eleven_tables_and_little_else(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    open_storage(schema="mine").migrate()

    found = rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'mine'")

    assert {name for (name,) in found} == TABLES | OUR_OWN
    assert rows(database, "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'taskito')") == [
        (0,)
    ]


def test_columns_have_five_types_only(open_storage: OpenStorage, database: psycopg.Connection[Any]) -> None:
    open_storage().migrate()

    found = rows(
        database, "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_schema = 'taskito'"
    )

    assert {kind for (kind,) in found} == {"text", "bytea", "bigint", "boolean", "double precision"}


def test_the_rows_of_jobs_and_letters_are_those_that_the_core_describes(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    open_storage().migrate()
    types = {
        columns.Kind.TEXT: "text",
        columns.Kind.LIST: "text",
        columns.Kind.INTEGER: "bigint",
        columns.Kind.REAL: "double precision",
        columns.Kind.BOOLEAN: "boolean",
        columns.Kind.BYTES: "bytea",
    }

    def found(table: str) -> dict[str, tuple[str, bool]]:
        shape = database.execute(
            "SELECT column_name, data_type, is_nullable = 'YES' FROM information_schema.columns"
            " WHERE table_schema = 'taskito' AND table_name = %s",
            (table,),
        )
        return {name: (kind, nullable) for name, kind, nullable in shape}

    described = {column.name: (types[column.kind], column.nullable) for column in columns.JOBS}
    own = {"finished": ("boolean", False), "awaited": ("boolean", False)}
    assert found("jobs") == described | own
    letter = {name: described[name] for name in columns.COPIED if name not in ("error", "expires_at")}
    assert letter.items() <= found("dead_letter").items()
    assert set(found("dead_letter")) == {*columns.COPIED, "job_id", "reason", "traceback", "failed_at"}


def test_jobs_shows_every_job_whatever_partition_it_is_in(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage = open_storage()
    storage.enqueue([make_job(), make_job()])

    assert rows(database, "SELECT count(*) FROM taskito.jobs WHERE status = 'pending'") == [(2,)]


def test_two_schemas_in_one_database_never_see_each_other(open_storage: OpenStorage) -> None:
    mine, yours = open_storage(schema="mine"), open_storage(schema="yours")
    worker = make_worker()
    yours.register(worker)
    [receipt] = mine.enqueue([make_job()])

    assert claim(yours, worker.id, 5) == []
    assert yours.get([receipt.id]) == []
    assert mine.workers() == []
    assert yours.rescue({}) == []
    assert mine.counts().by_queue["default"].pending == 1
    assert yours.counts().by_queue == {}


def test_a_wakeup_of_one_schema_does_not_reach_another(open_storage: OpenStorage) -> None:
    mine, yours = open_storage(schema="mine"), open_storage(schema="yours")
    worker = make_worker()
    for storage in (mine, yours):
        storage.register(worker)
    waking = yours.listen(worker.id, ["default"])
    try:
        for storage in (mine, yours):
            storage.exchange(worker.id, [], Want(1, ("default",), (), new_token()))

        mine.enqueue([make_job()])
        assert waking.wait(0.3) is False

        yours.enqueue([make_job()])
        assert waking.wait(10.0) is True
    finally:
        waking.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_eight_processes_that_start_at_once_all_succeed_and_one_migrates(
    postgres_url: str, database: psycopg.Connection[Any], isolation: str
) -> None:
    name = database.info.dbname
    database.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{isolation}'".encode())
    program = """
import sys
from taskito_core import StorageConfig
from taskito_testing.factories import make_job
from taskito_postgres.storage import PostgresStorage
storage = PostgresStorage(StorageConfig(backend="postgres", db_url=sys.argv[1], schema="eight"))
sys.stdin.readline()  # all start together
storage.enqueue([make_job()])
storage.close()
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program, postgres_url], stdin=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for process in started:
        process.communicate("go\n", timeout=120)

    assert [process.returncode for process in started] == [0] * 8
    with psycopg.connect(postgres_url) as database:
        assert rows(database, "SELECT count(*) FROM eight.jobs") == [(8,)]
        assert rows(database, "SELECT version FROM eight.schema_version ORDER BY version") == [
            (migration.version,) for migration in migrate.migrations()
        ]


def test_a_role_that_may_not_create_schemas_works_once_its_schema_exists(
    open_storage: OpenStorage, database: psycopg.Connection[Any], postgres_url: str
) -> None:
    name = database.info.dbname
    role = f"role_{name}"
    database.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'secret'".encode())
    try:
        database.execute(f'REVOKE CREATE ON DATABASE "{name}" FROM PUBLIC'.encode())
        database.execute(f'CREATE SCHEMA taskito AUTHORIZATION "{role}"'.encode())
        info = database.info
        storage = open_storage(f"postgresql://{role}:secret@{info.host}:{info.port}/{name}")

        storage.enqueue([make_job()])

        assert storage.counts().by_queue["default"].pending == 1
        assert storage.migrate() == []
    finally:
        storage.close()
        database.execute("DROP SCHEMA taskito CASCADE")
        database.execute(f'DROP ROLE "{role}"'.encode())


def test_a_schema_of_an_older_version_gets_what_it_lacks_and_keeps_what_it_holds(
    open_storage: OpenStorage, database: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, worker = open_storage(), make_worker()
    [receipt] = storage.enqueue([make_job()])
    storage.close()
    added = migrate.Migration(9998, "9998_more", "ALTER TABLE jobs ADD COLUMN more TEXT;")
    all_of_them = (*migrate.migrations(), added)
    monkeypatch.setattr(migrate, "migrations", lambda: all_of_them)

    assert storage.pending_migrations() == ["9998_more"]
    storage.register(worker)

    assert storage.info().schema_version == 9998
    assert rows(database, "SELECT more FROM taskito.jobs") == [(None,)]
    assert [each.id for each in claim(storage, worker.id, 5)] == [receipt.id]


def test_a_schema_newer_than_the_plugin_is_refused_with_what_to_do(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    open_storage().migrate()
    database.execute("INSERT INTO taskito.schema_version VALUES (9999, '9999_from_the_future', 0)")
    storage = open_storage()

    for call in (storage.now, storage.migrate, storage.pending_migrations):
        with pytest.raises(ConfigError, match=r"9999.*pip install --upgrade taskito-postgres"):
            call()
    assert storage.info().schema_version == 9999


def test_without_auto_migrate_an_old_schema_is_refused_and_nothing_is_made(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage = open_storage(auto_migrate=False)

    with pytest.raises(ConfigError, match="taskito migrate"):
        storage.enqueue([make_job()])
    assert rows(database, "SELECT count(*) FROM pg_namespace WHERE nspname = 'taskito'") == [(0,)]

    assert storage.migrate() == [migration.name for migration in migrate.migrations()]
    assert storage.enqueue([make_job()])[0].inserted


def test_the_printed_sql_makes_the_same_schema_as_migrating(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    printed, migrated = open_storage(schema="printed", auto_migrate=False), open_storage(schema="migrated")
    database.execute(printed.migration_sql().encode())
    migrated.migrate()

    def shape(schema: str) -> list[tuple[Any, ...]]:
        columns = database.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default"
            " FROM information_schema.columns WHERE table_schema = %s ORDER BY 1, ordinal_position",
            (schema,),
        ).fetchall()
        indexes = database.execute(
            "SELECT tablename, indexname, replace(indexdef, schemaname || '.', '') FROM pg_indexes"
            " WHERE schemaname = %s ORDER BY 1, 2",
            (schema,),
        ).fetchall()
        return columns + indexes

    assert shape("printed") == shape("migrated")
    assert printed.pending_migrations() == []


def test_migrations_are_numbered_in_their_order_from_1() -> None:
    versions = [migration.version for migration in migrate.migrations()]
    assert versions == sorted(set(versions))
    assert versions[0] == 1
    folder = Path(migrate.__file__).parent / "migrations"
    assert {path.stem for path in folder.glob("*.sql")} == {
        migration.name for migration in migrate.migrations()
    }


def test_the_search_path_is_the_schema_and_no_statement_depends_on_it(
    open_storage: OpenStorage, database: psycopg.Connection[Any]
) -> None:
    storage = open_storage(schema="mine", pool_size=1)
    storage.migrate()
    database.execute("CREATE SCHEMA other; CREATE TABLE other.jobs_live (id TEXT)")

    def search_path() -> Any:
        return storage._connections.on_pool(
            "look", lambda session: session.rows(b"SHOW search_path", {})[0][0]
        )

    def spoil(statement: bytes) -> None:
        storage._connections.on_pool("spoil", lambda session: session.connection.execute(statement))

    assert search_path() == '"mine"'
    spoil(b"SET search_path = other")
    assert storage.enqueue([make_job()])[0].inserted
    spoil(b"DISCARD ALL")
    assert storage.counts().by_queue["default"].pending == 1
    assert storage.enqueue([make_job()])[0].inserted


def test_a_schema_that_vanishes_is_an_error_and_no_driver_class_escapes(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any]
) -> None:
    database.execute("DROP SCHEMA taskito CASCADE")

    for call in (
        lambda: storage.enqueue([make_job()]),
        lambda: storage.exchange(
            worker_id, [Dead("a", 1, DeadReason.RETRIES, None, error_info(), None)], want(1)
        ),
        lambda: storage.heartbeat(worker_id, []),
        storage.counts,
        lambda: storage.await_finished("a", 0.1),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert isinstance(caught.value.__cause__, psycopg.Error)
        assert not isinstance(caught.value, ConfigError)


def test_a_store_that_held_jobs_before_there_was_a_retention_keeps_them_for_ever(
    open_storage: OpenStorage, database: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.migrations()
    monkeypatch.setattr(migrate, "migrations", lambda: known[:3])
    open_storage().migrate()
    database.execute(
        "INSERT INTO taskito.jobs (id, task_name, queue, status, scheduled_at, created_at, completed_at,"
        " prune_at, finished, payload) VALUES ('old', 't', 'q', 'complete', 1, 1, 1, 1, true, '')"
    )
    monkeypatch.undo()
    storage = open_storage()

    assert storage.migrate() == [one.name for one in known[3:]]

    assert storage.retention() == Retention(None, None, None)
    assert storage.prune(9).announce == Retention(None, None, None)
    assert rows(database, "SELECT id, prune_at FROM taskito.jobs_done") == [("old", None)]
