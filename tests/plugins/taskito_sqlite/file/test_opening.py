"""Which SQLite is refused, and how a file is opened."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskito_core import ConfigError, StorageUnavailable
from taskito_sqlite.file.opening import require_version
from taskito_testing import make_job
from tests.plugins.taskito_sqlite.conftest import Open

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


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


@pytest.fixture
def unusable(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Paths at which no database can be, each with a part of what is to be said of it."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "old.db").touch()
    closed.chmod(0o555)
    read_only = tmp_path / "read_only.db"
    read_only.touch(0o444)
    (tmp_path / "file").touch()
    return {
        "no directory": (tmp_path / "no" / "such" / "jobs.db", f"there is no directory {tmp_path}/no"),
        "closed": (closed / "jobs.db", f"may not write to the directory {closed}"),
        "closed below": (closed / ".taskito" / "jobs.db", f"may not write to the directory {closed}"),
        "closed, but there": (closed / "old.db", f"may not write to the directory {closed}"),
        "read-only": (read_only, f"may not write to {read_only}"),
        "a file in between": (tmp_path / "file" / "jobs.db", f"{tmp_path}/file is no directory"),
        "a directory": (closed, f"{closed} is a directory"),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("no directory", "closed", "closed below", "closed, but there"),
        *("read-only", "a file in between", "a directory"),
    ],
)
def test_where_no_database_can_be_is_said_at_once(case: str, unusable: dict[str, tuple[Path, str]]) -> None:
    path, said = unusable[case]

    done = unprivileged("enqueue", "t", path=path)

    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("case", ["no directory", "closed"])
def test_a_worker_does_not_wait_for_what_no_time_mends(
    case: str, unusable: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    path, said = unusable[case]
    (tmp_path / "someapp.py").write_text(
        "from taskito import Queue\nqueue = Queue()\n@queue.task\ndef t(): ...\n"
    )

    done = unprivileged("worker", "--app", "someapp:queue", path=path, cwd=tmp_path)

    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert "trying again" not in done.stderr


def test_one_directory_is_made_together_with_the_database(tmp_path: Path) -> None:
    assert unprivileged("enqueue", "t", path=tmp_path / "new" / "jobs.db").returncode == 0


def unprivileged(*arguments: str, path: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process to which the permissions of files apply, even if it is root's."""

    def obey_permissions() -> None:
        if os.geteuid() == 0:
            libc = ctypes.CDLL(None)
            for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
                assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0

    return subprocess.run(
        [sys.executable, "-m", "taskito", *arguments],
        env=os.environ | {"TASKITO_DB_PATH": str(path), "PYTHONPATH": ""},
        cwd=cwd,
        preexec_fn=obey_permissions,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_who_only_reads_makes_no_file(open_storage: Open, tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    storage = open_storage(db_path=str(path))

    with pytest.raises(StorageUnavailable, match="unable to open"):
        storage._database.read(lambda connection: None)

    assert list(tmp_path.iterdir()) == []
