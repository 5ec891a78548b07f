"""Our modules form layers: no import leads back to where it began, and the longest chain is short.

An import inside a function and one under TYPE_CHECKING count for cycles: a name in a signature, too, is
something a reader has to know. For the depth only what runs when a module is imported counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [ROOT / "taskito", ROOT / "taskito_core", *sorted(ROOT.glob("plugins/taskito_*"))]
#: Modules in the longest chain of imports that begins with ``import taskito``.
DEEPEST = 11


class Import(NamedTuple):
    """One import of one of our modules."""

    module: str
    runs: bool  #: when the importing module is imported; not later, and not only for type checkers


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in PACKAGES:
        for file in package.rglob("*.py"):
            parts = file.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imports(name: str) -> Iterator[Import]:
    """What a module imports of ours, wherever in its source."""
    yield from _below(ast.parse(MODULES[name].read_text()), runs=True)


def _below(node: ast.AST, runs: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                yield from (Import(one.name, runs) for one in names if one.name in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                for one in names:
                    target = f"{module}.{one.name}" if f"{module}.{one.name}" in MODULES else module
                    if target in MODULES:
                        yield Import(target, runs)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body, orelse=otherwise):
                yield from _below(ast.Module(body, []), runs=False)
                yield from _below(ast.Module(otherwise, []), runs)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _below(child, runs=False)
            case _:
                yield from _below(child, runs)


def test_no_import_leads_back_to_its_own_module() -> None:
    graph = {name: {one.module for one in imports(name)} - {name} for name in MODULES}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        raise AssertionError(" is imported by ".join(exc.args[1])) from None


def test_importing_taskito_goes_through_few_modules_in_a_row() -> None:
    @cache
    def longest(name: str) -> tuple[str, ...]:
        # The facade imports its names when they are asked for; those are under its TYPE_CHECKING.
        chains = [longest(one.module) for one in imports(name) if one.runs or name == "taskito"]
        return (name, *max(chains, key=len, default=()))

    chain = longest("taskito")

    assert len(chain) <= DEEPEST, " > ".join(chain)
