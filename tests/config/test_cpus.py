"""S12: ``workers=0`` means the CPUs this process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskito.config.settings import available_cpus

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(root: Path, membership: str, files: dict[str, str]) -> Path:
    """A directory that looks like / to the code under test."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def test_a_machine_without_control_groups_gives_what_the_affinity_allows(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == ALLOWED


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can pin a process")
def test_the_affinity_mask_counts() -> None:
    one = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, {{{one}}}); "
        "from taskito.config.settings import available_cpus; print(available_cpus())"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("150000 100000", 2),  # the half CPU is used by a second worker
        ("max 100000", None),
        ("6400000 100000", None),
        ("garbage", None),
        ("1 0", None),
    ],
)
def test_a_version_2_quota_bounds_the_count(tmp_path: Path, limit: str, cpus: int | None) -> None:
    root = machine(tmp_path, "0::/app\n", {"app/cpu.max": limit})

    assert available_cpus(root) == min(ALLOWED, cpus or ALLOWED)


def test_the_tightest_of_nested_groups_binds(tmp_path: Path) -> None:
    root = machine(
        tmp_path, "0::/outer/inner\n", {"outer/cpu.max": "100000 100000", "outer/inner/cpu.max": "max 1"}
    )

    assert available_cpus(root) == 1


def test_in_a_container_the_mount_itself_is_the_group(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/../../host/path\n", {"cpu.max": "100000 100000"})

    assert available_cpus(root) == 1


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(("quota", "cpus"), [("100000", 1), ("-1", None)])
def test_a_version_1_quota_bounds_the_count(tmp_path: Path, mount: str, quota: str, cpus: int | None) -> None:
    files = {f"{mount}/app/cpu.cfs_quota_us": quota, f"{mount}/app/cpu.cfs_period_us": "100000"}
    root = machine(tmp_path, "11:memory:/app\n4:cpu,cpuacct:/app\n", files)

    assert available_cpus(root) == min(ALLOWED, cpus or ALLOWED)
