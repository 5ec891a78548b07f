"""Directories that processes of one user share on one machine."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def runtime_directory(purpose: str, longest: int = 4096) -> Path | None:
    """This user's private directory for sockets or FIFOs of one purpose, made if need be.

    The same for every process of the user with the same environment, so that one finds what another left.
    Its path has at most ``longest`` bytes. None if each is taken by another user, or nothing is writable.
    """
    bases = [Path(tempfile.gettempdir()) / f"taskito-{os.getuid()}", Path(f"/tmp/taskito-{os.getuid()}")]
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        bases.insert(0, Path(session) / "taskito")
    for base in bases:
        directory = base / purpose
        if len(os.fsencode(directory)) <= longest and _is_private(base) and _is_private(directory):
            return directory
    return None


def _is_private(directory: Path) -> bool:
    """Make the directory, mode 0700; False if others may use it (someone else may have made it first)."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
