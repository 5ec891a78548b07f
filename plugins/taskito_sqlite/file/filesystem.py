"""Network file systems are refused: SQLite's locks cannot be trusted there."""

from __future__ import annotations

import os

from taskito_core import ConfigError

MOUNTS = "/proc/self/mounts"
NETWORK = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs"),
    }
)
#: FUSE file systems name themselves after a dot: fuse.sshfs.
NETWORK_FUSE = frozenset(
    ("ceph", "davfs", "gcsfuse", "glusterfs", "goofys", "juicefs", "rclone", "s3fs", "sshfs")
)


def refuse_network(path: str, mounts: str = MOUNTS) -> None:
    """Raise ConfigError if ``path`` is on a network file system, as far as the system tells."""
    kind = kind_of(os.path.realpath(os.path.dirname(path)), mounts)
    if kind is not None and is_network(kind):
        raise ConfigError(
            f"{path} is on a network file system ({kind}), where SQLite's locks cannot be trusted:"
            " use a local disk, or the postgres backend for several machines"
        )


def is_network(kind: str) -> bool:
    """True for a file system type whose files other machines may change."""
    family, _, name = kind.partition(".")
    return family in NETWORK or (family == "fuse" and name in NETWORK_FUSE)


def kind_of(directory: str, mounts: str = MOUNTS) -> str | None:
    """The type of the file system that holds ``directory``, or None if the system does not say."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as table:
            lines = table.readlines()
    except OSError:
        return None
    best, kind = "", None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Blanks in mount points are written as octal escapes.
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = directory == point or directory.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one counts.
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind
