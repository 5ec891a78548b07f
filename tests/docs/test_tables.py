"""The tables of promises and faults name tests that exist, and claim nothing without one."""

from __future__ import annotations

import ast
import functools
import re
from typing import NamedTuple

import pytest

from tools import documents

PAGES = documents.pages()
PROMISES = PAGES["docs/promises.md"]
FAULTS = PAGES["docs/faults.md"]
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")

#: Rows of the list of faults that this version must survive; the others belong to later features.
REQUIRED = {*range(1, 10), 11, 13, 14, *range(21, 32), *range(34, 52), *range(55, 58), *range(59, 64), 74}


class Row(NamedTuple):
    key: str
    cells: list[str]

    @property
    def tests(self) -> list[tuple[str, str]]:
        return [(path, name) for cell in self.cells for path, name in _TEST.findall(cell)]


def rows(page: str, key: str) -> list[Row]:
    """The rows of all tables of a page whose first cell looks like ``key``."""
    found = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(key, cells[0]):
            found.append(Row(cells[0], cells[1:]))
    return found


def numbers(key: str) -> list[int]:
    """``S8-S10, S12`` or ``1, 3-4`` as numbers."""
    found: list[int] = []
    for part in key.replace("S", "").split(","):
        first, _, last = part.strip().partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Tests and classes of tests in a file, which is named from ``tests/`` or from the root."""
    below = documents.ROOT / "tests" / path
    tree = ast.parse((below if below.exists() else documents.ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return frozenset(name for name in names if name.startswith(("test_", "Test")))


PROMISE_ROWS = rows(PROMISES, r"S\d[\dS, -]*")
FAULT_ROWS = rows(FAULTS, r"\d[\d, -]*")


@pytest.mark.parametrize("row", [*PROMISE_ROWS, *FAULT_ROWS], ids=lambda row: row.key)
def test_every_named_test_exists(row: Row) -> None:
    missing = [f"{path}::{name}" for path, name in row.tests if name not in names_in(path)]

    assert missing == []


def test_each_promise_has_one_row_and_one_state() -> None:
    found = [number for row in PROMISE_ROWS for number in numbers(row.key)]

    assert len(found) == len(set(found))
    # Numbers of the document that promise nothing of their own are left out.
    assert set(range(1, 98)) - set(found) <= {37, 38, 73, 74, 75}
    assert {row.cells[1] for row in PROMISE_ROWS} <= {"works", "partly", "later"}


def test_what_works_is_shown_by_a_test_and_what_does_not_says_what_is_missing() -> None:
    assert [row.key for row in PROMISE_ROWS if row.cells[1] == "works" and not row.tests] == []
    assert [row.key for row in PROMISE_ROWS if row.cells[1] == "partly" and not row.cells[3]] == []


def test_each_fault_has_one_row_and_a_test_or_a_word_about_its_lack() -> None:
    found = [number for row in FAULT_ROWS for number in numbers(row.key)]

    assert len(found) == len(set(found))
    assert set(found) >= REQUIRED
    assert [row.key for row in FAULT_ROWS if not row.tests and "no test" not in row.cells[-1]] == []
