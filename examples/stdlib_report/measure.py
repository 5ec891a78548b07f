"""Measure one Python source file with ``ast``. Knows nothing of queues.

Run as a program it is the "one plain process" that the worker is compared with: paths as a JSON
list on standard input, seconds and measurements as JSON on standard output.
"""

from __future__ import annotations

import ast
import json
import sys
import time
import warnings
from pathlib import Path
from typing import TypedDict

#: What a file that is no valid Python for this interpreter raises. Trying again cannot help.
UNPARSABLE = (SyntaxError, UnicodeDecodeError, ValueError, RecursionError, MemoryError)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
#: Each is one more way through the code.
_DECISIONS = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.comprehension,
    ast.match_case,
)
#: Each puts its body one level deeper.
_BLOCKS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)


class Measurement(TypedDict):
    path: str
    lines: int
    functions: int
    classes: int
    nesting: int  #: blocks inside blocks at the deepest place
    complexity: int  #: cyclomatic: one for the module and each function, plus one per decision


def measure(path: str) -> Measurement:
    """Read, parse and measure one file; raises one of UNPARSABLE for what is no Python."""
    source = Path(path).read_bytes()
    with warnings.catch_warnings():
        # An invalid escape sequence in somebody's file is not our news.
        warnings.simplefilter("ignore")
        tree = ast.parse(source, filename=path)
    found = Measurement(
        path=path, lines=len(source.splitlines()), functions=0, classes=0, nesting=0, complexity=1
    )
    # A list, not recursion: some files nest expressions deeper than the interpreter's stack.
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        depth += _count(node, found)
        found["nesting"] = max(found["nesting"], depth)
        # An elif is an If inside the else of another, but nobody indents it.
        elif_node = node.orelse[0] if isinstance(node, ast.If) and len(node.orelse) == 1 else None
        for child in ast.iter_child_nodes(node):
            flat = child is elif_node and isinstance(child, ast.If)
            waiting.append((child, depth - 1 if flat else depth))
    return found


def _count(node: ast.AST, found: Measurement) -> int:
    """Add one node to the counts; 1 if what is inside it is a level deeper."""
    if isinstance(node, _FUNCTIONS):
        found["functions"] += not isinstance(node, ast.Lambda)
        found["complexity"] += 1
    elif isinstance(node, ast.ClassDef):
        found["classes"] += 1
    elif isinstance(node, _DECISIONS):
        found["complexity"] += 1
        found["complexity"] += len(node.ifs) if isinstance(node, ast.comprehension) else 0
    elif isinstance(node, ast.BoolOp):
        found["complexity"] += len(node.values) - 1
    return isinstance(node, _BLOCKS)


def measure_all(paths: list[str]) -> dict[str, Measurement | None]:
    """Every file in turn; None for those that do not parse."""
    measurements: dict[str, Measurement | None] = {}
    for path in paths:
        try:
            measurements[path] = measure(path)
        except UNPARSABLE:
            measurements[path] = None
    return measurements


def main() -> None:
    paths = json.load(sys.stdin)
    started = time.perf_counter()
    measurements = measure_all(paths)
    json.dump({"seconds": time.perf_counter() - started, "measurements": measurements}, sys.stdout)


if __name__ == "__main__":
    main()
