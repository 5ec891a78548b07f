"""How large a file, a folder and the core may become."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from tools import sources

LINES_OF_A_FILE = 400
FILES_OF_A_FOLDER = 25
MODULES_OF_THE_CORE = 20
LINES_OF_THE_CORE = 3_500


def lines(*places: str) -> dict[str, int]:
    return {file: path.read_text().count("\n") for file, path in sources.files(*places).items()}


def test_no_python_file_is_longer_than_400_lines() -> None:
    """A file that comes near is split by noun, not at the ceiling."""
    sizes = {**lines(*sources.PLACES), "conftest.py": (sources.ROOT / "conftest.py").read_text().count("\n")}

    assert {file: count for file, count in sizes.items() if count > LINES_OF_A_FILE} == {}


def test_no_folder_has_more_than_25_python_files() -> None:
    folders = Counter(str(PurePosixPath(file).parent) for file in sources.files(*sources.PLACES))

    assert {folder: count for folder, count in folders.items() if count > FILES_OF_A_FOLDER} == {}


def test_the_core_is_minimal() -> None:
    core = lines("taskito_core")

    assert len(core) <= MODULES_OF_THE_CORE
    assert sum(core.values()) <= LINES_OF_THE_CORE
