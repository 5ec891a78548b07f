"""Which file systems are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskito_core import ConfigError
from taskito_sqlite.file import filesystem

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
