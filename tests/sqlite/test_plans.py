"""How SQLite would run the statements: none of the hot ones reads a whole table, or sorts one."""

from __future__ import annotations

import re
import sqlite3

import pytest

from taskito_sqlite import acts, breakers, limits, queries, sql, upkeep
from taskito_sqlite.storage import SqliteStorage

STATEMENTS = {
    name: value
    for module in (sql, queries, upkeep, acts, limits, breakers)
    for name, value in vars(module).items()
    if name.isupper() and name[0] != "_" and isinstance(value, str)
}


def _plan(storage: SqliteStorage, name: str) -> list[str]:
    statement = STATEMENTS[name]

    def explain(connection: sqlite3.Connection) -> list[str]:
        names = set(re.findall(r":([a-z_]+)", re.sub(r"--.*", "", statement)))
        numbers = [int(number) for number in re.findall(r"\?(\d+)", statement)]
        values: object = dict.fromkeys(names) if names else [None] * max(numbers, default=0)
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]  # type: ignore[arg-type]

    return storage._read(explain)


@pytest.mark.parametrize("name", [*sql.HOT, *queries.HOT, *upkeep.HOT, *acts.HOT, *limits.HOT, *breakers.HOT])
def test_a_hot_statement_scans_nothing_but_its_own_parameter(storage: SqliteStorage, name: str) -> None:
    plan = _plan(storage, name)

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
        "SCAN steps",
    )
    scans = [step for step in plan if step.startswith("SCAN") and not step.startswith(allowed)]
    assert scans == [], plan


@pytest.mark.parametrize(
    "name", ["DUE", "DUE_HEADS", "DUE_IN_ORDER", "CLAIM", "NEXT_DUE", "NEXT_LANE", "FIRST_PRIORITY"]
)
def test_a_claim_reads_its_index_in_order_and_sorts_nothing(storage: SqliteStorage, name: str) -> None:
    plan = _plan(storage, name)

    assert not [step for step in plan if "TEMP B-TREE" in step], plan
    assert [step for step in plan if "jobs_claim" in step], plan


@pytest.mark.parametrize("name", ["COMPLETE", "RETRY", "BURY", "RELEASE"])
def test_a_settle_finds_its_row_by_id(storage: SqliteStorage, name: str) -> None:
    assert _plan(storage, name) == ["SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"]


@pytest.mark.parametrize("name", ["LIST_ALL", "LIST_FINISHED", "LIST_PENDING_MANY", "DEAD_LETTERS"])
def test_a_page_is_read_in_order_and_nothing_is_sorted(storage: SqliteStorage, name: str) -> None:
    plan = _plan(storage, name)

    assert not [step for step in plan if "TEMP B-TREE" in step], plan


def test_counting_reads_indexes_and_no_row(storage: SqliteStorage) -> None:
    plan = _plan(storage, "COUNT_LIVE") + _plan(storage, "COUNT_FINISHED")

    assert not [step for step in plan if "jobs" in step and "COVERING" not in step], plan


def test_every_statement_is_valid_and_says_what_it_does(storage: SqliteStorage) -> None:
    for name, statement in STATEMENTS.items():
        if name not in ("JOB_COLUMNS", "LETTER_COLUMNS", "TALLY_COLUMNS", "MATCHES"):
            _plan(storage, name)
            assert statement.startswith(("\n-- ", "DELETE FROM")), name
