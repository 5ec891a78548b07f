"""The site is built of the same pages, with strict links, and its reference is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import taskito
from tools import api_reference, documents, site


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    site.gather(pages)
    # Given from outside, so that no test writes into the tree.
    config = (documents.ROOT / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(config.replace("docs_dir: build/pages", "docs_dir: pages"))

    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)

    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "site" / "index.html").exists()
    for page in documents.pages():
        if page.startswith("docs/"):
            assert (tmp_path / "site" / site.in_site(page)).with_suffix(".html").exists() or page.endswith(
                "README.md"
            )


def test_the_reference_has_every_public_name_once() -> None:
    names = re.findall(r"^### (\w+)$", api_reference.page(), re.MULTILINE)

    assert sorted(names) == sorted(name for name in taskito.__all__ if name != "__version__")


def test_every_public_class_and_function_is_described() -> None:
    sections = re.split(r"^###+ (\S+)$", api_reference.page(), flags=re.MULTILINE)[1:]
    empty = [
        name
        for name, text in zip(sections[::2], sections[1::2], strict=True)
        if not re.sub(r"```text.*?```", "", text.split("\n## ")[0], flags=re.DOTALL).strip()
    ]

    assert empty == []
