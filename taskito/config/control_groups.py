"""What the control groups of this process allow it (Linux): of the kernel's version 1 and 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

#: Reads one limit from the directory of a group; None: that group sets none.
Read = Callable[[Path], float | None]


def limits(root: Path, controller: str, version_2: Read, version_1: Read) -> Iterator[float]:
    """The limit of every control group this process is in, outer ones too: the tightest one binds.

    ``root`` is where /proc and /sys are.
    """
    try:
        membership = (root / "proc/self/cgroup").read_text()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":  # version 2: one tree for everything
            yield from _each_level([mounts], path, version_2)
        elif controller in controllers.split(","):
            yield from _each_level([mounts / controllers, mounts / controller], path, version_1)


def _each_level(mounts: list[Path], path: str, read: Read) -> Iterator[float]:
    mount = next((mount for mount in mounts if mount.is_dir()), None)
    if mount is None:
        return
    # In a container the path may be the host's and not exist here; the mount itself is then our group.
    inside = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(inside), -1, -1):
        limit = read(mount.joinpath(*inside[:depth]))
        if limit is not None:
            yield limit
