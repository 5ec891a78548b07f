"""The statements: each can be pasted, and no hot one reads a whole table, whatever the planner believes."""

from __future__ import annotations

import itertools
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import psycopg
import pytest

from taskito_postgres import sql
from taskito_postgres.session import Statements
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import claim, complete, make_job, retry

MODULES = [import_module(f"{sql.__name__}.{each.name}") for each in pkgutil.iter_modules(sql.__path__)]
HOT = tuple(statement for module in MODULES for statement in getattr(module, "HOT", ()))
#: Every whole statement, by its module and name.
STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, str) and value.startswith("\n-- ") and not name.startswith("_")
}


def numbered(statement: bytes) -> tuple[str, int]:
    """The statement with $1, $2, ... for its named parameters, and how many there are."""
    names: list[str] = []

    def place(found: re.Match[str]) -> str:
        name, cast = found.groups()
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}{cast or _CASTS.get(name, '')}"

    return re.sub(r"%\((\w+)\)b(::\w+(?:\[\])?)?", place, statement.decode()), len(names)


#: The types of parameters that the server cannot infer.
_CASTS = {
    **dict.fromkeys(("id", "worker", "waiting", "after"), "::text"),
    **dict.fromkeys(("shift", "limit", "token", "kept"), "::bigint"),
    **dict.fromkeys(("lazily", "requested"), "::boolean"),
    **dict.fromkeys(
        (
            "tokens", "started", "delays", "caps", "locks", "moments", "succeeded", "failed", "peak_memory",
            "wanted", "bursts", "opened", "probes", "thresholds", "old_opened", "old_probes", "beats",
        ),
        "::bigint[]",
    ),
    **dict.fromkeys(("progress", "total_run", "shortest_run", "longest_run", "total_wait"), "::float8[]"),
    **dict.fromkeys(("rates", "windows", "cooldowns"), "::float8[]"),
    "results": "::bytea[]",
    **dict.fromkeys(
        (
            "ids", "queues", "tasks", "charges", "kinds", "types", "messages", "tracebacks", "summaries",
            "reasons", "lanes", "statuses", "task_names", "capped", "parents", "children", "states",
            "failures", "old_states", "old_failures", "keys", "unique_keys", "errors", "job_ids", "levels",
            "extras", "histograms", "payloads",
        ),
        "::text[]",
    ),
}  # fmt: skip


def analyzed(database: psycopg.Connection[Any]) -> None:
    for table in ("jobs_live", "jobs_done", "job_errors", "dead_letter", "workers"):
        database.execute(f"VACUUM ANALYZE taskito.{table}".encode())


def test_each_statement_can_be_pasted_into_a_shell(
    storage: PostgresStorage, database: psycopg.Connection[Any]
) -> None:
    storage.migrate()
    refused = {}
    for name in STATEMENTS.keys() - {"enqueue.COPY"}:  # which has no parameters, and cannot be prepared
        text, _ = numbered(STATEMENTS[name].encode())
        if name == "workers.REGISTER":  # there the lists are JSON
            text = text.replace("::text[]", "")
        try:
            database.execute(f"PREPARE pasted AS {text}".encode())
            database.execute("DEALLOCATE pasted")
        except psycopg.Error as error:
            refused[name] = str(error)

    assert refused == {}


#: What the planner may believe: nothing yet, that all is empty, the truth about many rows, that all
#: is empty although it is not.
BELIEFS = ("new", "empty", "full", "wrong")


@pytest.mark.parametrize("belief", BELIEFS)
def test_no_hot_statement_reads_a_table_through_whatever_the_planner_believes(
    storage: PostgresStorage, worker_id: str, database: psycopg.Connection[Any], belief: str
) -> None:
    if belief in ("empty", "wrong"):
        analyzed(database)
    if belief in ("full", "wrong"):
        storage.enqueue([make_job() for _ in range(3000)])
        claims = claim(storage, worker_id, 1000)
        storage.exchange(worker_id, [retry(each) for each in claims[:200]], None)
        storage.exchange(worker_id, [complete(each) for each in claims[200:700]], None)
    if belief == "full":
        analyzed(database)

    plans = {name: plan(storage, text) for name, text in STATEMENTS.items() if text in HOT}
    assert len(plans) == len(HOT)

    read_through = {name: shown for name, shown in plans.items() if any(_reads_through(shown))}
    assert not read_through, "\n\n".join(f"{name}\n{shown}" for name, shown in read_through.items())


def plan(storage: PostgresStorage, statement: str) -> str:
    text, parameters = numbered(Statements("taskito")[statement])

    def explain(session: Any) -> str:
        session.connection.execute(f"PREPARE hot AS {text}".encode())
        nulls = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        lines = session.connection.execute(f"EXPLAIN EXECUTE hot{nulls}".encode()).fetchall()
        session.connection.execute("DEALLOCATE hot")
        return "\n".join(line for (line,) in lines)

    return storage._connections.on_worker("explain", explain)


#: The running jobs are few, and have an index of their own. Of the others only the first entry is read.
IN_ORDER = ("jobs_live_worker", "jobs_live_expires", "jobs_live_later_due")


def _reads_through(shown: str) -> Iterator[str]:
    """Lines of a plan that read a whole table, in order or through an index without a condition."""
    lines = [*shown.splitlines(), ""]
    for line, below in itertools.pairwise(lines):
        table = re.search(r"Scan (?:using \w+ )?on (jobs\w*|job_errors|dead_letter|task_metrics)", line)
        if table and "Cond:" not in below and not any(index in line for index in IN_ORDER):
            yield line
