"""How many CPUs this process may use: its affinity, and what its control group allows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def available_cpus(root: str | Path = "/") -> int:
    """CPUs this process may use, at least 1: the smaller of the affinity mask and the cgroup quota.

    A quota of 1.5 CPUs counts as 2: the second worker can use the half. ``root`` is where /proc and
    /sys are.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(Path(root))]
    return max(1, min([allowed, *quotas]))


def _quotas(root: Path) -> Iterator[float]:
    """The quota of every control group this process is in, outer ones too: the tightest one binds."""
    try:
        membership = (root / "proc/self/cgroup").read_text()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":  # version 2: one tree for everything
            yield from _each_level([mounts], path, _quota_v2)
        elif "cpu" in controllers.split(","):
            yield from _each_level([mounts / controllers, mounts / "cpu"], path, _quota_v1)


def _each_level(mounts: list[Path], path: str, read: Callable[[Path], float | None]) -> Iterator[float]:
    mount = next((mount for mount in mounts if mount.is_dir()), None)
    if mount is None:
        return
    # In a container the path may be the host's and not exist here; the mount itself is then our group.
    inside = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(inside), -1, -1):
        quota = read(mount.joinpath(*inside[:depth]))
        if quota is not None:
            yield quota


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
