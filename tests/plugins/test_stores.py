"""Promises S11, S13-S16, S28-S39 and S52 on real stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import scalar_row

from taskito import ConfigError, Queue, StorageError
from taskito_core.job import NewJob, new_id
from tools.private_postgres import Server

TABLES = {
    *("jobs", "dead_letter", "rate_limits", "periodic_tasks", "job_errors", "job_dependencies"),
    *("task_metrics", "replay_history", "task_logs", "circuit_breakers", "workers"),
}
FIVE_TYPES = {"text", "bytea", "bigint", "boolean", "double precision"}


def ask(url: str, sql: str, *parameters: object) -> list[object]:
    """The first column of every row of an answer."""
    with psycopg.connect(url, autocommit=True, row_factory=scalar_row) as connection:
        return connection.execute(sql.encode(), parameters).fetchall()


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def columns(url: str, schema: str) -> dict[tuple[str, str], str]:
    """(table, column) -> type, of everything in a schema."""
    sql = """SELECT table_name, column_name, data_type FROM information_schema.columns
              WHERE table_schema = %s"""
    with psycopg.connect(url) as connection:
        rows = connection.execute(sql, [schema]).fetchall()
    return {(table, column): kind for table, column, kind in rows}


@pytest.fixture
def new_queue() -> Iterator[Callable[..., Queue]]:
    """Makes queues; closed after the test."""
    made: list[Queue] = []

    def make(**settings: object) -> Queue:
        made.append(Queue(**settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for queue in made:
        queue.close()


NewQueue = Callable[..., Queue]


# ---- S13-S16: the same on both backends ----


def test_s15_the_default_priority_applies_unless_the_task_or_the_call_says_otherwise(
    backend_url: str, new_queue: NewQueue
) -> None:
    queue = new_queue(db_url=backend_url, default_priority=5)

    @queue.task
    def plain() -> None: ...

    @queue.task(priority=0)
    def own() -> None: ...

    ids = [plain.delay().id, own.delay().id, plain.apply_async(priority=0).id]

    priorities = {job.id: job.priority for job in queue.storage.get(ids)}
    assert [priorities[id_] for id_ in ids] == [5, 0, 0]


def test_s16_the_result_ttl_applies_unless_the_task_or_the_call_says_otherwise(
    backend_url: str, new_queue: NewQueue
) -> None:
    queue = new_queue(db_url=backend_url, result_ttl=60)

    @queue.task
    def plain() -> None: ...

    @queue.task(result_ttl=0)
    def own() -> None: ...

    ids = [plain.delay().id, own.delay().id, plain.apply_async(result_ttl=5).id]

    ttls = {job.id: job.result_ttl for job in queue.storage.get(ids)}
    assert [ttls[id_] for id_ in ids] == [60, 0, 5]


# ---- S11, S28-S34: schemas ----


@pytest.mark.parametrize("schema", ["taskito", "MyTasks", "select", "1abc", "x" * 63])
def test_s11_s28_every_object_lives_in_the_schema_whatever_its_name(
    schema: str, postgres_url: str, new_queue: NewQueue
) -> None:
    queue = new_queue(db_url=postgres_url, schema=schema)

    @queue.task
    def work() -> None: ...

    job = work.delay()

    assert queue.storage.get([job.id])
    tables = {table for table, _ in columns(postgres_url, schema)}
    assert tables >= TABLES
    sql = """SELECT n.nspname || '.' || c.relname
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname <> %s AND n.nspname !~ '^(pg_|information_schema)'"""
    assert ask(postgres_url, sql, schema) == []


def test_s30_eight_processes_that_start_first_at_once_all_succeed(backend_url: str, tmp_path: Path) -> None:
    program = f"""
import sys
from taskito import Queue
queue = Queue(db_url={backend_url!r}, schema="Fresh")
@queue.task(name="work")
def work(): ...
sys.stdin.read()
print(work.delay().id)
queue.close()
"""
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for _ in range(8)
    ]
    try:
        for start in starts:
            assert start.stdin is not None
            start.stdin.close()
            start.stdin = None
        said = [start.communicate(timeout=100) for start in starts]
    finally:
        for start in starts:
            start.kill()
            start.wait()

    assert [start.returncode for start in starts] == [0] * 8, said
    [told] = [errors for _, errors in said if errors]
    assert told.count("\n") == 1
    assert "made a new one" in told
    with Queue(db_url=backend_url, schema="Fresh") as queue:
        assert queue.stats()["pending"] == 8


def test_s33_two_schemas_of_one_database_never_see_each_others_jobs(
    postgres_url: str, new_queue: NewQueue
) -> None:
    first, second = (new_queue(db_url=postgres_url, schema=name) for name in ("one", "two"))
    job = NewJob(id=new_id(), task_name="t", payload=b"")

    first.storage.enqueue([job])

    assert second.storage.get([job.id]) == []
    assert second.stats()["pending"] == 0
    second.storage.enqueue([job])
    assert (first.stats()["pending"], second.stats()["pending"]) == (1, 1)


def test_s34_tables_of_the_application_are_left_alone(postgres_url: str, new_queue: NewQueue) -> None:
    execute(postgres_url, "CREATE TABLE jobs (mine text)", "CREATE TABLE workers (mine text)")

    new_queue(db_url=postgres_url).stats()

    assert columns(postgres_url, "public") == {("jobs", "mine"): "text", ("workers", "mine"): "text"}


# ---- S35: the pool ----


def connections_of(server: Server, url: str) -> int:
    return len(server.connections(url))


def test_s35_a_process_that_only_enqueues_holds_at_most_one_connection(
    postgres_server: Server, postgres_url: str, new_queue: NewQueue
) -> None:
    queue = new_queue(db_url=postgres_url)
    assert connections_of(postgres_server, postgres_url) == 0

    for _ in range(3):
        queue.stats()

    assert connections_of(postgres_server, postgres_url) <= 1


def test_s35_the_pool_size_is_a_public_setting_of_both_backends(
    backend_url: str, new_queue: NewQueue
) -> None:
    assert new_queue(db_url=backend_url).storage_config.pool_size is None

    queue = new_queue(db_url=backend_url, pool_size=1)

    assert queue.storage_config.pool_size == 1
    assert queue.stats()["pending"] == 0


# ---- S36: search_path ----


def test_s36_a_search_path_of_the_role_or_the_database_changes_nothing(
    postgres_url: str, new_queue: NewQueue
) -> None:
    [name] = ask(postgres_url, "SELECT current_database()")
    execute(
        postgres_url,
        "CREATE SCHEMA trap",
        "CREATE TABLE trap.jobs (x int)",
        f'ALTER DATABASE "{name}" SET search_path = trap',
    )
    queue = new_queue(db_url=postgres_url)
    job = NewJob(id=new_id(), task_name="t", payload=b"")

    queue.storage.enqueue([job])

    assert len(queue.storage.get([job.id])) == 1
    assert columns(postgres_url, "trap") == {("jobs", "x"): "integer"}


# ---- S39: migrations ----


def test_s39_first_use_migrates(backend_url: str, new_queue: NewQueue) -> None:
    queue = new_queue(db_url=backend_url)

    assert queue.stats()["pending"] == 0
    info = queue.storage.info()
    assert info.schema_version == info.newest_version >= 1


def test_a_database_that_is_made_is_named_once_also_where_no_log_is_set_up(backend_url: str) -> None:
    program = "import sys; from taskito import Queue; Queue(db_url=sys.argv[1]).stats()"

    made, used = (
        subprocess.run(
            [sys.executable, "-c", program, backend_url],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        for _ in range(2)
    )

    [line] = made.stderr.splitlines()
    assert line.startswith("there was no ")
    assert line.endswith(": made a new one")
    assert backend_url.partition("@")[2].rpartition("/")[2] in line
    assert used.stderr == ""


def test_s39_a_queue_can_be_told_not_to_migrate(backend_url: str, new_queue: NewQueue) -> None:
    queue = new_queue(db_url=backend_url, auto_migrate=False)

    with pytest.raises(ConfigError, match="taskito migrate"):
        queue.stats()
    assert queue.storage.pending_migrations() != []

    queue.storage.migrate()
    assert queue.stats()["pending"] == 0


def test_s4_a_role_without_create_works_once_the_schema_exists(
    postgres_url: str, new_queue: NewQueue
) -> None:
    new_queue(db_url=postgres_url).stats()
    role = f"guest_{new_id()[-8:]}"
    [name] = ask(postgres_url, "SELECT current_database()")
    execute(
        postgres_url,
        f"CREATE ROLE {role} LOGIN",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f'REVOKE CREATE, TEMPORARY ON DATABASE "{name}" FROM PUBLIC',
        f"GRANT USAGE ON SCHEMA taskito TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA taskito TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA taskito TO {role}",
    )
    try:
        queue = new_queue(db_url=as_role(postgres_url, role))
        job = NewJob(id=new_id(), task_name="t", payload=b"")

        queue.storage.enqueue([job])

        assert len(queue.storage.get([job.id])) == 1
        queue.close()
    finally:
        execute(postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_role_that_may_not_create_the_schema_is_told_what_to_do(
    postgres_url: str, new_queue: NewQueue
) -> None:
    role = f"guest_{new_id()[-8:]}"
    execute(postgres_url, f"CREATE ROLE {role} LOGIN")
    try:
        queue = new_queue(db_url=as_role(postgres_url, role))
        with pytest.raises((StorageError, ConfigError), match=r"(?i)permission|may not|CREATE"):
            queue.stats()
        queue.close()
    finally:
        execute(postgres_url, f"DROP ROLE {role}")


def as_role(url: str, role: str) -> str:
    return url + ("&" if "?" in url else "?") + f"user={role}" if "@" not in url else _with_user(url, role)


def _with_user(url: str, role: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{role}@{rest.rpartition('@')[2]}"


# ---- S40-S52: tables and types ----


def test_s40_s52_the_eleven_tables_have_columns_of_the_five_native_types(
    postgres_url: str, new_queue: NewQueue
) -> None:
    new_queue(db_url=postgres_url).stats()

    found = columns(postgres_url, "taskito")

    assert {table for table, _ in found} >= TABLES
    assert {kind for (table, _), kind in found.items() if table in TABLES} == FIVE_TYPES


def test_s40_the_eleven_tables_exist_on_sqlite_too(sqlite_path: Path, new_queue: NewQueue) -> None:
    """Postgres has its twin above; only it has types that are worth counting."""
    import sqlite3
    from contextlib import closing

    new_queue(db_path=sqlite_path).stats()

    with closing(sqlite3.connect(sqlite_path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert {name for (name,) in rows} >= TABLES
