"""The pages for contributors name files that exist, and functions and classes that are in them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools import documents, sources

PAGES = {
    name: documents.pages()[name] for name in ("CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md")
}
#: Both SQL plugins; their modules have the same names.
STORES = ("taskito_sqlite", "taskito_postgres")
_QUOTED = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:(?:taskito|taskito_core|plugins|tests|docs|tools)/|[\w.]+\.(?:md|toml)$|Makefile$)")


def paths(page: str) -> list[tuple[str, str]]:
    """Every file or folder that a page names, from the root, and the name in it that follows ``::``."""
    found = []
    for quoted in _QUOTED.findall(PAGES[page]):
        path, _, name = quoted.partition("::")
        if _PATH.match(path) and " " not in path and "…" not in path:
            found += [
                (path.replace("<store>", store), name) for store in (STORES if "<store>" in path else ("",))
            ]
    return found


def defined_in(path: Path) -> set[str]:
    """Functions, classes and constants of a module, methods as ``Class.method``; none if there is no file."""
    found: set[str] = set()
    if not path.exists():
        return found
    for node in sources.tree(path).body:
        found |= names_of(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in names_of(inner)}
    return found


def names_of(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_the_page_exists(page: str) -> None:
    named = {path for path, _ in paths(page)}

    assert len(named) > 20
    assert [path for path in sorted(named) if not (sources.ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_name_on_the_page_is_in_its_file(page: str) -> None:
    missing = [
        f"{path}::{name}"
        for path, name in paths(page)
        if name and name not in defined_in(sources.ROOT / path)
    ]

    assert missing == []


def test_the_architecture_is_one_page() -> None:
    assert PAGES["docs/architecture.md"].count("\n") <= 120


def test_a_dozen_changes_are_explained() -> None:
    section = PAGES["CONTRIBUTING.md"].split("\n## Where do I change …\n")[1].split("\n## ")[0]

    assert len(re.findall(r"^\| [^|-]", section, re.MULTILINE)) - 1 >= 12


def test_every_package_of_the_runtime_is_on_the_page_of_the_architecture() -> None:
    packages = [path.parent for path in sources.files("taskito").values() if path.name == "__init__.py"]
    named = [package.relative_to(sources.ROOT).as_posix() for package in packages]

    assert [name for name in named if name not in PAGES["docs/architecture.md"]] == []
