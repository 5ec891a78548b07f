"""The documentation as data: its pages, their code blocks, the words they mention."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\w+\.py)\n")
_COMMAND = re.compile(r"^\$ (.*)$", re.MULTILINE)


class Block(NamedTuple):
    page: str
    line: int  #: of the opening fence, from 1
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file this block is the content of: its first line says ``# name.py``."""
        match = _FILE.match(self.text)
        return match[1] if match else None


def pages() -> dict[str, str]:
    """Every page by its path from the root, as text."""
    found = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    found += sorted((ROOT / "plugins").glob("*/README.md")) + sorted((ROOT / "examples").glob("*/README.md"))
    return {str(path.relative_to(ROOT)): path.read_text() for path in found}


def blocks(page: str, text: str, language: str) -> list[Block]:
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _BLOCK.finditer(text)
        if match[1] == language
    ]


def commands(page: str, text: str) -> list[list[str]]:
    """Every ``$ command`` of the console blocks, split into words."""
    found = []
    for block in blocks(page, text, "console"):
        found += [shlex.split(line) for line in _COMMAND.findall(block.text)]
    return found
