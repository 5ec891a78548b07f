"""The two SQL plugins are twins: modules, methods, statements, tables and columns have the same names.

A reader of one knows where to find things in the other. What only one of them needs is listed here, with why.
"""

from __future__ import annotations

import re
import types
from importlib import import_module
from pathlib import Path

import pytest

import taskito_postgres
import taskito_sqlite
from taskito_core import CircuitBreaker, Metrics, RateLimiter, Storage

#: Modules and packages that only one plugin has.
OWN_MODULES = {
    "taskito_sqlite": {
        "file": "a package: fair locking, a local file system, files that are moved away, care around forks",
        "backup": "no tool that comes with SQLite copies a database while others write, and ends",
        "checkpoint": "the write-ahead log is written back by its users",
        "commit_watch": "SQLite notifies no process of a commit",
        "notify_socket": "so processes notify each other",
    },
    "taskito_postgres": {
        "session": "a connection and its settings: a pooler may share it",
        "arrays": "a batch travels as arrays",
        "batch": "a batch with gates is many statements in one transaction",
        "notifications": "LISTEN has a connection of its own, NOTIFY a thread",
    },
}

#: Statements that only one plugin has.
OWN_STATEMENTS = {
    "taskito_sqlite": {
        "enqueue": "KEY_HOLDER STATUSES IS_AT_KEY KEY_OF TAKE_WRITE_LOCK",  # a row at a time
        "claim": "PAUSED_OR_LIMITED NEXT_LANE FIRST_PRIORITY NEXT_PRIORITY DUE DUE_HEADS "
        "DUE_IN_ORDER",  # a probe each
        "settle": "ADD_ERROR ADD_LETTER CANCEL_REQUESTED ALREADY_FINISHED ALREADY_RETRIED",  # a step each
        "gates": "OUTSTANDING MARK_FOLLOWED FOLLOWED CLEAR_FOLLOWED WAITING_CHILDREN UNFINISHED_PARENT "
        "LOST_PARENT VACATE_SLOTS LEAVE_SLOT TAKEN_SLOTS FIRST_AT_KEY EXPIRED",  # a step each
        "workers": "ORPHANS",  # found first, then taken back one by one
        "wakeups": "LIVE_WORKERS SET_ADDRESS WORKER_ADDRESS FINISHED_AWAITED CLEAR_AWAITED ENDED",  # sockets
        "admin": "LETTER DROP_LETTER FOLLOW_PARENTS DELETABLE NEEDED PURGEABLE PRUNABLE",  # found, then gone
        "read": "LIST_ALL LIST_FINISHED LIST_RUNNING LIST_PENDING_FEW LIST_PENDING_MANY PENDING_UP_TO "
        "UNFINISHED_PARENTS SLOT_HOLDERS AHEAD",  # an index each
        "job_log": "LOGS_OF_JOB LOGS_OF_TASK",  # an index each
        "periodic": "DECLARED_BY_OTHERS",  # asked before
        "limits": "BUCKET PUT_BUCKET PUT_BREAKER",  # read and stored in one write transaction
        "metrics": "TALLY PUT_TALLY TALLIES_OF_TASK",  # merged in Python
    },
    "taskito_postgres": {
        # sets of rows, against concurrent writers
        "enqueue": "ENQUEUE_ONE COPY UNDO_FINISHED UNDO_FINISHED_ONE STANDS_FOR ADD_CALLS COPY_CLOCK",
        "claim": "CLAIM_CAPPED LOCK_LIMITS",
        "settle": "COMPLETE_EXTERNAL LOCK_ROWS ALREADY_RECORDED LOCKED_BY_OTHERS",
        "gates": "CANCEL_DEPENDANTS LOCK_PARENTS SET_LOCK_TIMEOUT UNRELEASED_CHILDREN LOCK_KEYS DROP_EXCESS "
        "KEYS_WITH_FREE_SLOT EXPIRE",
        "workers": "END_FROZEN STILL_THERE WAITS_FOR",  # SQLite has no server that could end a process's part
        "wakeups": "NOTIFY_WORKERS NOTIFY NOTIFY_FINISHED IS_LIVE",  # LISTEN and NOTIFY
        "admin": "TAKE_LETTER PURGE PRUNE",
        "read": "LIST_JOBS COUNT_FINISHED_EXACTLY SERVER",
        "limits": "ADD_BUCKETS TAKE_TOKENS ADD_BREAKERS SWAP_BREAKERS",  # compare and swap
        "metrics": "RECORD IS_AHEAD",
        "doctor": "SERVER_STATE OLD_SNAPSHOTS",  # SQLite has no server
        "clock": "CLOCK LOCK_CLOCK LIVE_AHEAD",  # the server's; rows may be locked by others
    },
}

#: Columns that only one plugin has.
OWN_COLUMNS = {
    "taskito_sqlite": {
        ("jobs", "seq"),  # the row's number: what indexes lead to
        ("jobs", "followed"),  # an outbox: a job waits for the end of this one
        ("job_errors", "seq"),
        ("workers", "notify_address"),
        ("workers", "notify_queues"),
    },
    "taskito_postgres": {("jobs", "finished")},  # chooses the partition
}

PLUGINS = (taskito_sqlite, taskito_postgres)


def _folder(plugin: types.ModuleType) -> Path:
    assert plugin.__file__ is not None
    return Path(plugin.__file__).parent


def _migrations(plugin: types.ModuleType) -> list[Path]:
    return sorted((_folder(plugin) / "migrations").glob("*.sql"))


def _modules(folder: Path) -> set[str]:
    """The modules and packages in a folder."""
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for path in folder.glob("*.py")} - {"__init__"}


def _twins(name: str) -> tuple[types.ModuleType, types.ModuleType]:
    sqlite, postgres = (import_module(f"{plugin.__name__}.{name}") for plugin in PLUGINS)
    return sqlite, postgres


def test_both_have_the_same_modules_and_migrations() -> None:
    sqlite, postgres = (_modules(_folder(plugin)) - set(OWN_MODULES[plugin.__name__]) for plugin in PLUGINS)

    assert sqlite == postgres
    for plugin in PLUGINS:
        assert set(OWN_MODULES[plugin.__name__]) <= _modules(_folder(plugin))
    names = [[path.name for path in _migrations(plugin)] for plugin in PLUGINS]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("contract", "classes"),
    [
        (Storage, ("storage.SqliteStorage", "storage.PostgresStorage")),
        (RateLimiter, ("rate_limiter.SqliteRateLimiter", "rate_limiter.PostgresRateLimiter")),
        (CircuitBreaker, ("circuit_breaker.SqliteCircuitBreaker", "circuit_breaker.PostgresCircuitBreaker")),
        (Metrics, ("metrics.SqliteMetrics", "metrics.PostgresMetrics")),
    ],
)
def test_each_method_of_a_contract_is_in_the_module_of_the_same_name(
    contract: type, classes: tuple[str, str]
) -> None:
    homes = []
    for plugin, path in zip(PLUGINS, classes, strict=True):
        module, _, name = path.partition(".")
        found = getattr(import_module(f"{plugin.__name__}.{module}"), name)
        homes.append({method: _home(found, method) for method in _methods(contract)})

    assert homes[0] == homes[1]


def _methods(contract: type) -> list[str]:
    return sorted(
        name
        for base in contract.__mro__
        for name, value in vars(base).items()
        if not name.startswith("_") and isinstance(value, types.FunctionType)
    )


def _home(found: type, method: str) -> str:
    """The module in which a method is defined, without the plugin's name."""
    module: str = getattr(found, method).__module__
    return module.removeprefix("taskito_sqlite.").removeprefix("taskito_postgres.")


def test_both_have_the_same_modules_of_statements() -> None:
    sqlite, postgres = (_modules(_folder(plugin) / "sql") for plugin in PLUGINS)

    assert sqlite == postgres


@pytest.mark.parametrize("name", sorted(_modules(_folder(taskito_sqlite) / "sql")))
def test_a_statement_with_the_same_meaning_has_the_same_name(name: str) -> None:
    for module, other in (twins := _twins(f"sql.{name}")), reversed(twins):
        plugin = module.__name__.partition(".")[0]
        own = set(OWN_STATEMENTS[plugin].get(name, "").split())
        assert _statements(module) - _statements(other) == own, plugin


def _statements(module: types.ModuleType) -> set[str]:
    """The names of the constants that are whole statements: those that begin with a comment."""
    return {
        name
        for name, value in vars(module).items()
        if name.isupper() and not name.startswith("_") and name != "HOT" and _is_statement(value)
    }


def _is_statement(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_statement, value))
    return isinstance(value, str) and value.startswith("\n-- ")


def test_both_schemas_have_the_same_tables_and_columns() -> None:
    sqlite, postgres = (_schema(plugin) for plugin in PLUGINS)

    assert set(sqlite) == set(postgres)
    for plugin, columns in zip(PLUGINS, (sqlite, postgres), strict=True):
        for table, column in OWN_COLUMNS[plugin.__name__]:
            columns[table].remove(column)
    assert sqlite == postgres


def _schema(plugin: types.ModuleType) -> dict[str, set[str]]:
    """The columns of each table, as the migrations make them; partitions have those of their table."""
    text = re.sub(r"--.*", "", "\n".join(path.read_text() for path in _migrations(plugin)))
    tables: dict[str, set[str]] = {}
    for table, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", text, re.DOTALL):
        lines = (line.split() for line in body.splitlines() if line.strip())
        words = {line[0].strip('"') for line in lines}
        tables[table] = words - {"CONSTRAINT", "CHECK", "PRIMARY", "UNIQUE"}
    for table, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", text):
        tables[table].add(column)
    return tables
