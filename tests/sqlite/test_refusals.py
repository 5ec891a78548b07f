"""What this plugin refuses, and what it calls passing trouble."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from taskito_core.errors import ConfigError, StorageError, StorageUnavailable
from taskito_sqlite import filesystem
from taskito_sqlite.connection import require_version
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import make_job
from tests.sqlite.conftest import Open

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/fast xfs rw 0 0
me@host:/ /mnt/over\\040ssh fuse.sshfs rw 0 0
//server/share /mnt/share cifs rw 0 0
/dev/fuse /mnt/local fuse.ntfs-3g rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> str:
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    return str(table)


@pytest.mark.parametrize(
    "path", ["/home/me/jobs.db", "/mnt/over ssh/jobs.db", "/mnt/share/deep/down/jobs.db"]
)
def test_a_network_file_system_is_refused_with_its_name(path: str, mounts: str) -> None:
    with pytest.raises(ConfigError, match="network file system"):
        filesystem.refuse_network(path, mounts)


@pytest.mark.parametrize(
    "path", ["/srv/jobs.db", "/home/fast/jobs.db", "/homework/jobs.db", "/mnt/local/jobs.db"]
)
def test_a_local_file_system_is_not(path: str, mounts: str) -> None:
    filesystem.refuse_network(path, mounts)


def test_a_system_that_does_not_list_its_mounts_refuses_nothing(tmp_path: Path) -> None:
    filesystem.refuse_network("/home/me/jobs.db", str(tmp_path / "missing"))


def test_an_old_sqlite_is_refused_with_both_versions() -> None:
    with pytest.raises(ConfigError, match=r"needs SQLite 3\.35 or newer.*3\.34\.1"):
        require_version((3, 34, 1))
    require_version((3, 35, 0))


def test_a_file_that_is_no_database_is_refused_for_good(sqlite_path: Path, storage: SqliteStorage) -> None:
    sqlite_path.write_bytes(b"no database at all, " * 100)

    with pytest.raises(StorageError, match="not a database") as caught:
        storage.counts()

    assert not isinstance(caught.value, StorageUnavailable)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


def test_somebody_elses_table_of_the_same_name_is_left_alone(
    sqlite_path: Path, storage: SqliteStorage
) -> None:
    with sqlite3.connect(sqlite_path) as theirs:
        theirs.execute("CREATE TABLE workers (name TEXT)")
    theirs.close()

    with pytest.raises(StorageError, match="already exists"):
        storage.migrate()

    assert storage.info().schema_version == 0


def test_a_full_disk_is_passing_trouble_and_stores_nothing(open_storage: Open) -> None:
    storage = open_storage(pool_size=1)
    storage.enqueue([make_job()])
    pages = storage._database.alone(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    storage._database.alone(lambda c: c.execute(f"PRAGMA max_page_count={pages + 2}").fetchone())

    with pytest.raises(StorageUnavailable, match="full") as caught:
        storage.enqueue([make_job(payload=bytes(100_000)), make_job()])
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert storage.counts().by_queue["default"].pending == 1

    storage._database.alone(lambda c: c.execute("PRAGMA max_page_count=100000").fetchone())
    storage.enqueue([make_job()])
    assert storage.counts().by_queue["default"].pending == 2


@pytest.mark.parametrize(
    "job",
    [make_job(queue="\ud800"), make_job(priority=2**63), make_job(metadata='"\udfff"')],
    ids=["surrogate", "too large", "surrogate in metadata"],
)
def test_a_value_that_cannot_be_stored_is_refused_with_the_whole_batch(
    storage: SqliteStorage, job: object
) -> None:
    with pytest.raises(StorageError, match="cannot store a value"):
        storage.enqueue([make_job(), job])  # type: ignore[list-item]

    assert storage.counts().by_queue == {}
