"""How SQLite would run the statements: none of the hot ones reads a whole table, or sorts one."""

from __future__ import annotations

import re
import sqlite3
from importlib import import_module
from pkgutil import iter_modules

import pytest

from taskito_sqlite import sql
from taskito_sqlite.storage import SqliteStorage

MODULES = [import_module(f"taskito_sqlite.sql.{found.name}") for found in iter_modules(sql.__path__)]
#: ``module.NAME`` -> statement
STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if name.isupper() and name[0] != "_" and isinstance(value, str) and value.startswith("\n-- ")
}
HOT = [statement for module in MODULES for statement in getattr(module, "HOT", ())]


def _plan(storage: SqliteStorage, statement: str) -> list[str]:
    def explain(connection: sqlite3.Connection) -> list[str]:
        names = set(re.findall(r":([a-z_]+)", re.sub(r"--.*", "", statement)))
        numbers = [int(number) for number in re.findall(r"\?(\d+)", statement)]
        values: object = (
            dict.fromkeys(names) if names else [None] * max(numbers, default=statement.count("?"))
        )
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]  # type: ignore[arg-type]

    return storage._read(explain)


@pytest.mark.parametrize("statement", HOT, ids=[statement.split("\n")[1][3:60] for statement in HOT])
def test_a_hot_statement_scans_nothing_but_its_own_parameter(storage: SqliteStorage, statement: str) -> None:
    plan = _plan(storage, statement)

    allowed = (
        "SCAN wanted VIRTUAL TABLE",
        "SCAN json_each VIRTUAL TABLE",
        # These hold nothing but what is asked for.
        "SCAN jobs USING COVERING INDEX jobs_awaited",
        "SCAN jobs USING INDEX jobs_awaited",
        "SCAN jobs USING INDEX jobs_later",
        "SCAN jobs USING COVERING INDEX jobs_followed",
        "SCAN jobs USING INDEX jobs_followed",
        "SCAN jobs USING COVERING INDEX jobs_vacated",
        "SCAN jobs USING INDEX jobs_vacated",
        "SCAN CONSTANT ROW",
        "SCAN paused_queues",
        "SCAN retention",  # one row
        "SCAN queue_limits",
        "SCAN (subquery",  # what was found, and is counted
        "SCAN steps",
        "SCAN tried",
    )
    scans = [step for step in plan if step.startswith("SCAN") and not step.startswith(allowed)]
    assert scans == [], plan


@pytest.mark.parametrize(
    "name", ["DUE", "DUE_HEADS", "DUE_IN_ORDER", "CLAIM", "NEXT_DUE", "NEXT_LANE", "FIRST_PRIORITY"]
)
def test_a_claim_reads_its_index_in_order_and_sorts_nothing(storage: SqliteStorage, name: str) -> None:
    plan = _plan(storage, STATEMENTS[f"claim.{name}"])

    assert not [step for step in plan if "TEMP B-TREE" in step], plan
    assert [step for step in plan if "jobs_claim" in step], plan


@pytest.mark.parametrize("name", ["COMPLETE", "RETRY", "BURY", "RELEASE"])
def test_a_settle_finds_its_row_by_id(storage: SqliteStorage, name: str) -> None:
    assert _plan(storage, STATEMENTS[f"settle.{name}"]) == [
        "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"
    ]


@pytest.mark.parametrize("name", ["LIST_ALL", "LIST_FINISHED", "LIST_PENDING_MANY", "DEAD_LETTERS"])
def test_a_page_is_read_in_order_and_nothing_is_sorted(storage: SqliteStorage, name: str) -> None:
    plan = _plan(storage, STATEMENTS[f"read.{name}"])

    assert not [step for step in plan if "TEMP B-TREE" in step], plan


def test_counting_reads_indexes_and_no_row(storage: SqliteStorage) -> None:
    plan = _plan(storage, STATEMENTS["read.COUNT_LIVE"]) + _plan(storage, STATEMENTS["read.COUNT_FINISHED"])

    assert not [step for step in plan if "jobs" in step and "COVERING" not in step], plan


def test_every_constant_is_a_statement_that_says_what_it_does_or_a_fragment_of_some(
    storage: SqliteStorage,
) -> None:
    for statement in (*STATEMENTS.values(), *HOT):
        _plan(storage, statement)
        assert statement.startswith("\n-- ")
    texts = "".join(STATEMENTS.values())
    for module in MODULES:
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str) and value not in STATEMENTS.values():
                assert value in texts or value in HOT, name
