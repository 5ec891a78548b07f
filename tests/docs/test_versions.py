"""The versions that CI runs are those that the page of versions lists and the packages declare."""

from __future__ import annotations

import re
import tomllib

from tools import documents

WORKFLOW = (documents.ROOT / ".github" / "workflows" / "ci.yml").read_text()
PAGE = documents.pages()["docs/versions.md"]


def matrix(name: str) -> set[str]:
    [listed] = re.findall(rf"^ +{name}: \[(.*)\]$", WORKFLOW, re.MULTILINE)
    return set(re.findall(r'"([\d.]+)"', listed))


def column(number: int, pattern: str) -> set[str]:
    rows = re.findall(r"^\| (\d.*) \|$", PAGE, re.MULTILINE)
    return {found for row in rows for found in re.findall(pattern, row.split(" | ")[number])}


def test_every_python_of_the_workflow_is_on_the_page_and_declared() -> None:
    project = tomllib.loads((documents.ROOT / "pyproject.toml").read_text())["project"]
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))

    assert matrix("python") == column(0, r"^3\.\d+") == set(declared)


def test_every_postgresql_of_the_workflow_is_on_the_page() -> None:
    assert matrix("postgres") == column(1, r"^\d+")


def test_the_workflow_does_what_anyone_can_do() -> None:
    assert "- run: bash .ci/run\n" in WORKFLOW
    assert "PYTHON: python${{ matrix.python }}\n" in WORKFLOW
    assert "POSTGRES: ${{ matrix.postgres }}\n" in WORKFLOW
    assert "exec make test" in (documents.ROOT / ".ci" / "run").read_text()
