"""What a test left behind: processes, threads, open descriptors. Away from Linux it sees threads only."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from tools import postgres_engines

#: Environment variable by which the programs of one test run are recognised wherever they end up.
MARK = "TEST_RUN_MARK"
#: What a worker that ended left to the one who adopts it: us, once a test has made this process a subreaper.
_ADOPTED = (b"taskito: zygote", b"taskito: child[")
_PATIENCE = 5.0  #: seconds something may take to go away


class Snapshot(NamedTuple):
    processes: dict[int, str]  #: pid -> command line
    threads: frozenset[threading.Thread]
    descriptors: dict[tuple[int, str], str]  #: (number, target) -> how to show it


def snapshot() -> Snapshot:
    return Snapshot(_processes(), frozenset(threading.enumerate()), _descriptors())


def since(before: Snapshot) -> list[str]:
    """One line for everything that is here now and was not then."""
    now = snapshot()
    started = now.processes.keys() - before.processes.keys()
    lines = [f"process {pid}: {now.processes[pid]}" for pid in sorted(started)]
    lines += [f"thread {thread.name!r}" for thread in now.threads - before.threads]
    lines += [shown for key, shown in now.descriptors.items() if key not in before.descriptors]
    return lines


def settled(look: Callable[[], list[str]], patience: float = _PATIENCE) -> list[str]:
    """What ``look`` still sees after giving it up to ``patience`` seconds to go away."""
    deadline = time.monotonic() + patience
    found = look()
    if found:
        gc.collect()
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _processes() -> dict[int, str]:
    """Our children, and whatever else carries this run's mark in its environment."""
    found: dict[int, str] = {}
    me, mark = os.getpid(), f"{MARK}={os.environ.get(MARK, '-')}".encode()
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if not name.isdigit() or (pid := int(name)) == me or pid in postgres_engines.own_processes:
                continue
            with suppress(OSError):
                stat = _read(f"/proc/{name}/stat")
                fields = stat.rpartition(b")")[2].split()
                is_ours = int(fields[1]) == me
                if is_ours and fields[0] == b"Z" and stat.partition(b"(")[2].startswith(_ADOPTED):
                    os.waitpid(pid, os.WNOHANG)
                elif is_ours or mark in _environment(pid):
                    found[pid] = _describe(pid, stat, fields)
    # Everything the server forks inherits its mark with its environment or is its child, not ours.
    return {pid: shown for pid, shown in found.items() if not _belongs_to_server(pid)}


def _environment(pid: int) -> list[bytes]:
    with suppress(OSError):
        return _read(f"/proc/{pid}/environ").split(b"\0")
    return []


def _belongs_to_server(pid: int) -> bool:
    with suppress(OSError, ValueError):
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        return int(fields[1]) in postgres_engines.own_processes
    return False


def _describe(pid: int, stat: bytes, fields: list[bytes]) -> str:
    command = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    name = stat.partition(b"(")[2].rpartition(b")")[0].decode(errors="replace")
    return f"{command or name} (zombie)" if fields[0] == b"Z" else command or name


def _descriptors() -> dict[tuple[int, str], str]:
    found: dict[tuple[int, str], str] = {}
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):
            # The listing's own descriptor is gone by the time it is looked at.
            with suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{name}")
                if not target.startswith("/dev/"):
                    found[int(name), target] = f"descriptor {name}: {target}"
    return found


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
