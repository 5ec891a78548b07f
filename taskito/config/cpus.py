"""How many CPUs this process may use: its affinity, and what its control group allows."""

from __future__ import annotations

import math
import os
from pathlib import Path

from taskito.config.control_groups import limits


def available_cpus(root: str | Path = "/") -> int:
    """CPUs this process may use, at least 1: the smaller of the affinity mask and the cgroup quota.

    A quota of 1.5 CPUs counts as 2: the second worker can use the half. ``root`` is where /proc and
    /sys are.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in limits(Path(root), "cpu", _quota_v2, _quota_v1)]
    return max(1, min([allowed, *quotas]))


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
