"""Nobody reaches into another object's privates: its author may change ``other._name`` at any time."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tools import sources

#: What the standard library spells with an underscore and means for everybody.
PUBLIC_ALL_THE_SAME = {
    **dict.fromkeys(("_replace", "_asdict", "_fields", "_make"), "a named tuple's methods"),
    "os._exit": "ends a process without running what its parent registered",
    "sys._getframe": "the documented way to a frame",
    "sys._current_frames": "the documented way to those of other threads",
}
#: What a child needs of the interpreter and has no public name.
EXCEPTIONS = {
    "taskito/worker/child/bootstrap.py": {
        "weakref.finalize._registry": "a forked child must not remove what all children use",
        "processes._children": "nor terminate the processes that the app started",
    },
    "taskito/worker/child/exit.py": {
        "atexit._run_exitfuncs": "a child ends with os._exit, after what its tasks registered",
        "threading._shutdown": "and after waiting for their threads, as the interpreter does",
    },
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def own_names(node: ast.ClassDef) -> set[str]:
    """The private names a class has of its own: methods, fields and what it assigns to ``self``."""
    found = set()
    for inner in ast.walk(node):
        match inner:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return {name for name in found if is_private(name)}


class Reaches(ast.NodeVisitor):
    """Collects the places of a module where it uses a private name that is not its own."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[tuple[int, str]] = []
        self._classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self._own: list[set[str]] = []
        self.visit(tree)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._own.append(own_names(node))
        self.generic_visit(node)
        self._own.pop()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if is_private(node.attr) and not self._is_own(node):
            self.found.append((node.lineno, ast.unparse(node)))
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if is_private(alias.name):
                self.found.append((node.lineno, f"{node.module}.{alias.name}"))

    def _is_own(self, node: ast.Attribute) -> bool:
        match node.value:
            case ast.Name(id=name) if name in {"self", "cls", *self._classes}:
                return True
            case ast.Call(func=ast.Name(id="super")):
                return True
        # Another object of the same class, as in a comparison of two of them.
        return any(node.attr in own for own in self._own)


def reaches(file: str, tree: ast.Module) -> Iterator[str]:
    allowed = {**PUBLIC_ALL_THE_SAME, **EXCEPTIONS.get(file, {})}
    for line, what in Reaches(tree).found:
        if what not in allowed and what.rpartition(".")[2] not in allowed:
            yield f"{file}:{line}: {what}"


def test_nobody_reaches_into_another_objects_privates() -> None:
    found = [
        reach
        for file, path in sources.files(*sources.PACKAGES).items()
        for reach in reaches(file, sources.tree(path))
    ]

    assert found == [], "give it a name without an underscore, or a place of its own:\n" + "\n".join(found)


def test_every_exception_is_still_needed() -> None:
    for file, names in EXCEPTIONS.items():
        text = (sources.ROOT / file).read_text()
        assert [name for name in names if name not in text] == []


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("queue._tasks", ["queue._tasks"]),
        ("self.queue._submit()", ["self.queue._submit"]),
        ("from other import _helper", ["other._helper"]),
        ("row._replace(a=1)", []),
        ("os._exit(1)", []),
        ("class A:\n def f(self): return self._x + type(self).__name__", []),
        ("class A:\n def __init__(self): self._x = 1\n def __eq__(self, other): return other._x", []),
        ("class A:\n def f(self, other): return other._x", ["other._x"]),
        ("class B(A):\n def f(self): return super()._f()", []),
        ("class A:\n _limit: int\nA._limit", []),
    ],
)
def test_a_reach_is_told_from_what_is_ones_own(program: str, found: list[str]) -> None:
    assert [reach.partition(": ")[2] for reach in reaches("module.py", ast.parse(program))] == found
