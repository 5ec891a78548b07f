"""How much memory there is, and how much processes take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskito.config.memory import memory_limit, memory_of_tree

GIB = 2**30


def _machine(root: Path, groups: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal:        8388608 kB\nMemFree: 1 kB\n")
    (root / "proc/self/cgroup").write_text(groups)


def test_without_a_control_group_it_is_the_machines(tmp_path: Path) -> None:
    _machine(tmp_path, "")

    assert memory_limit(tmp_path) == 8 * GIB


def test_where_nobody_says_it_is_unknown(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


@pytest.mark.parametrize(
    ("inner", "outer", "limit"),
    [
        ("max", "max", 8 * GIB),
        (str(GIB), "max", GIB),
        ("max", str(2 * GIB), 2 * GIB),
        (str(16 * GIB), "max", 8 * GIB),
    ],
)
def test_the_tightest_of_the_control_groups_binds(tmp_path: Path, inner: str, outer: str, limit: int) -> None:
    _machine(tmp_path, "0::/app/worker\n")
    for name, value in (("app/worker", inner), ("app", outer)):
        group = tmp_path / "sys/fs/cgroup" / name
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{value}\n")

    assert memory_limit(tmp_path) == limit


@pytest.mark.parametrize(("said", "limit"), [(9223372036854771712, 8 * GIB), (3 * GIB, 3 * GIB)])
def test_version_1_says_a_huge_number_for_none(tmp_path: Path, said: int, limit: int) -> None:
    _machine(tmp_path, "5:memory:/app\n")
    group = tmp_path / "sys/fs/cgroup/memory/app"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text(str(said))

    assert memory_limit(tmp_path) == limit


def test_what_a_process_started_counts_with_it() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    inner = "held = bytearray(50_000_000); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"

        taken = memory_of_tree(process.pid)

        process.communicate(b"\n")
    assert 50_000_000 < taken < 150_000_000
    assert memory_of_tree(process.pid) == 0
    assert memory_of_tree(os.getpid()) > 0
