"""A worker started as users start it, and what the operating system says about its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.stores import Store
from taskito import Queue

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0


class BenchmarkFailed(RuntimeError):
    """What was to be measured did not happen."""


@contextlib.contextmanager
def worker(
    store: Store, procs: int = 2, app: str = "benchmarks.app:queue", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """``taskito worker`` in a session of its own; it must end with exit code 0 when interrupted."""
    command = [str(Path(sys.executable).with_name("taskito")), "worker", "--app", app]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--procs", str(procs), "--log-level", "warning"],
            cwd=ROOT,
            env={**os.environ, **store.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            if code:
                log.seek(0)
                sys.stderr.write(log.read().decode(errors="replace")[-4000:])
        if code:
            raise BenchmarkFailed(f"the worker ended with exit code {code}")


def until(predicate: Callable[[], object], what: str, interval: float = 0.02) -> None:
    deadline = time.monotonic() + PATIENCE
    while not predicate():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{what} took more than {PATIENCE:g} s")
        time.sleep(interval)


def warm(queue: Queue, procs: int = 2) -> None:
    """Return when every child has run something and the worker has gone idle."""
    from benchmarks.app import register

    stamp = register(queue).stamp
    for job in [stamp.delay() for _ in range(20 * procs)]:
        job.result(timeout=PATIENCE)
    time.sleep(0.3)


def processes(session: int) -> list[int]:
    """Every process of a session."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    found.append(int(name))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that these processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def context_switches(pids: list[int]) -> int:
    """How often these processes went to sleep of their own accord: an idle one should hardly wake."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def proportional_memory(pids: list[int]) -> float:
    """PSS in MB: shared pages are counted once, divided among those that share them."""
    kilobytes = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kilobytes += int(line.split()[1])
    return kilobytes / 1024
