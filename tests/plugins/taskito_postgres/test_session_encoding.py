"""Databases and connections that do not hold or send every character."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from taskito import Queue
from taskito_core import ConfigError, JobFilter
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import make_job, make_worker
from tests.faults.harness import Worker
from tools.private_postgres import Server

from .conftest import OpenStorage

#: Beyond Latin-1, beyond the 16 bits of UCS-2, combined, and from right to left.
TEXT = "naïve € 😀 e\u0301 שלום"


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "WIN1252", "EUC_JP"])
def narrow_url(request: pytest.FixtureRequest, postgres_server: Server) -> Iterator[str]:
    """A database of another encoding than UTF8."""
    name = f"taskito_narrow_{request.param.lower()}"
    database = sql.Identifier(name)
    postgres_server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
    make = sql.SQL("CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0")
    postgres_server.execute(make.format(database, sql.Literal(request.param)))
    yield postgres_server.url(name)
    postgres_server.drop_database(postgres_server.url(name))


#: The first use of a store, by whomever.
FIRST_USES: dict[str, Callable[[PostgresStorage], object]] = {
    "producer": lambda storage: storage.enqueue([make_job()]),
    "worker": lambda storage: storage.register(make_worker()),
    "reader": lambda storage: storage.counts(),
    "migrate": PostgresStorage.migrate,
    "check": PostgresStorage.pending_migrations,
}


def test_a_database_that_cannot_hold_every_character_is_refused_at_first_use_with_the_reason(
    open_storage: OpenStorage, narrow_url: str
) -> None:
    for use in FIRST_USES.values():
        with pytest.raises(ConfigError, match=r"keeps text as \w+, .*ENCODING 'UTF8'"):
            use(open_storage(narrow_url))

    with psycopg.connect(narrow_url) as database:
        assert database.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'taskito'").fetchall() == []


def test_a_worker_does_not_start_on_such_a_database_and_says_why(narrow_url: str, tmp_path: Path) -> None:
    (tmp_path / "narrow.py").write_text(
        f"from taskito import Queue\nqueue = Queue(db_url={narrow_url!r})\n@queue.task\ndef job(): pass\n"
    )
    worker = Worker(narrow_url, tmp_path, app="narrow:queue").start()
    try:
        assert worker.wait(60) != 0
        assert "UTF8" in worker.output()
    finally:
        worker.kill_everything()


@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii", "utf8"])
def test_every_character_is_kept_whatever_encoding_the_url_and_the_environment_name(
    postgres_url: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", encoding)
    with Queue(db_url=f"{postgres_url}?client_encoding={encoding}") as queue:

        @queue.task(name=f"task {TEXT}")
        def say(text: str) -> str:
            print(text)
            return text[::-1]

        job = say.using(queue=f"queue {TEXT}", unique_key=TEXT, metadata={TEXT: TEXT}).delay(TEXT)
        with queue.embedded_worker([f"queue {TEXT}"], threads=1):
            assert job.result(60) == TEXT[::-1]
        [kept] = queue.storage.get([job.id])
        assert (kept.task_name, kept.queue) == (f"task {TEXT}", f"queue {TEXT}")


@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii"])
def test_a_callers_connection_of_another_encoding_is_refused_before_anything_is_stored(
    storage: PostgresStorage, postgres_url: str, database: psycopg.Connection[Any], encoding: str
) -> None:
    storage.migrate()
    with psycopg.connect(postgres_url, client_encoding=encoding) as connection:
        connection.execute("CREATE TABLE mine (id int)")
        with pytest.raises(ConfigError, match=f"client_encoding UTF8, got {encoding.upper()}"):
            storage.enqueue([make_job(queue="naïve")], connection=connection)
        connection.commit()

    assert storage.list_jobs(JobFilter(), 10, None).jobs == []
    assert database.execute("SELECT count(*) FROM mine").fetchone() == (0,)
