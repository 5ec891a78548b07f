"""The source tree as data: the Python files of the distributions, and the names they define."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
#: The import packages of all distributions, as paths from the root.
PACKAGES = ("taskito_core", "taskito", *sorted(f"plugins/{path.name}" for path in ROOT.glob("plugins/*_*")))
#: Everything that is Python and ours: packages, tests, tools, examples.
PLACES = ("taskito_core", "taskito", "plugins", "tests", "tools", "benchmarks", "examples")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class Name(NamedTuple):
    file: str  #: path from the root
    line: int  #: 0: the module itself
    kind: str  #: "module", "class" or "function"
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind} {self.name}"


def files(*places: str) -> dict[str, Path]:
    """The Python files below these directories, by their path from the root, in order."""
    found = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path for path in found}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def names(*places: str) -> Iterator[Name]:
    """Every module, package, class and function (methods too) that is defined below these directories."""
    for file, path in files(*places).items():
        yield Name(file, 0, "module", path.parent.name if path.stem == "__init__" else path.stem)
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                yield Name(file, node.lineno, "class", node.name)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Name(file, node.lineno, "function", node.name)


def words(name: str) -> list[str]:
    """The words of a CamelCase or snake_case name in lower case: ``StoreThread`` is ``store``, ``thread``."""
    return [word.lower() for word in _WORD.findall(name)]
