"""How much memory this process may have, and how much one takes with all that it started (Linux)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from taskito.config.control_groups import limits


def memory_limit(root: str | Path = "/") -> int | None:
    """Bytes: the machine's memory, or what the control group allows if that is less. None: nobody says.

    ``root`` is where /proc and /sys are.
    """
    found = [int(limit) for limit in limits(Path(root), "memory", _limit_v2, _limit_v1)]
    try:
        for line in (Path(root) / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        pass
    return min(found, default=None)


def memory_of_tree(pid: int) -> int:
    """Bytes of a process and all its descendants, those of shared pages divided among those who share them.

    What has ended meanwhile, or is not to be read, counts nothing.
    """
    children = defaultdict[int, list[int]](list)
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            # The name of the program is in brackets, and may hold brackets and blanks.
            parent = int((directory / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children[parent].append(int(directory.name))
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        total += _proportional_size(one)
        waiting += children.pop(one, [])
    return total


def _proportional_size(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _limit_v2(group: Path) -> float | None:
    return _number(group / "memory.max")


def _limit_v1(group: Path) -> float | None:
    limit = _number(group / "memory.limit_in_bytes")
    return None if limit is None or limit >= 2**60 else limit  # what stands there for "none"


def _number(file: Path) -> float | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max"
        return None
