"""Which SQLite is refused, and how a file is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskito_core import ConfigError, StorageUnavailable
from taskito_sqlite.file.opening import require_version
from taskito_testing import make_job
from tests.plugins.taskito_sqlite.conftest import Open


def test_an_old_sqlite_is_refused_with_both_versions() -> None:
    with pytest.raises(ConfigError, match=r"needs SQLite 3\.35 or newer.*3\.34\.1"):
        require_version((3, 34, 1))
    require_version((3, 35, 0))


def test_a_path_with_every_odd_character_is_opened_and_not_read_as_a_url(
    open_storage: Open, tmp_path: Path
) -> None:
    path = tmp_path / "a?b#c%20d é \udcff.db"
    storage = open_storage(db_path=str(path))
    job = make_job()
    storage.enqueue([job])

    assert path.exists()
    assert [found.id for found in open_storage(db_path=str(path)).get([job.id])] == [job.id]


def test_who_only_reads_makes_no_file(open_storage: Open, tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    storage = open_storage(db_path=str(path))

    with pytest.raises(StorageUnavailable, match="unable to open"):
        storage._database.read(lambda connection: None)

    assert list(tmp_path.iterdir()) == []
