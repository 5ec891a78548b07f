"""CPU-bound work: 20 ms jobs on 2 processes beside two bare processes that do the same."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median
from typing import Any

from benchmarks.app import burn, register
from benchmarks.stores import Backend
from benchmarks.workers import ROOT, BenchmarkFailed, until, worker

REPETITIONS = 3
PROCESSES = 2
JOB_SECONDS = 0.02


def efficiency(backend: Backend, scale: float) -> dict[str, Any]:
    jobs = max(int(200 * scale), 50)
    rounds = _calibrate()
    ours, ideal = [], []
    for _ in range(REPETITIONS):
        ideal.append(_bare(jobs, rounds))
        with backend.fresh() as store:
            queue = store.queue()
            spin = register(queue).spin
            queue.enqueue_many(spin.spec(rounds) for _ in range(jobs))
            queue.close()
            with worker(store, PROCESSES):
                until(lambda store=store: store.unfinished() == 0, "CPU-bound jobs", 0.25)  # type: ignore[misc]
            drained = store.drained()
            if drained.complete != jobs:
                raise BenchmarkFailed(f"{drained.complete} of {jobs} jobs completed")
            ours.append(drained.seconds)
    return {
        "what": f"{jobs} jobs of {JOB_SECONDS * 1000:.0f} ms, {PROCESSES} processes; ideal: bare processes",
        "seconds": round(median(ours), 3),
        "ideal_seconds": round(median(ideal), 3),
        "efficiency": round(median(ideal) / median(ours), 3),
        "target": {"efficiency": 0.95},
    }


def _calibrate() -> int:
    """Rounds of ``burn`` that take about JOB_SECONDS here."""
    rounds = 10_000
    spent = min(_time(rounds) for _ in range(5))
    return int(rounds * JOB_SECONDS / spent)


def _time(rounds: int) -> float:
    began = time.perf_counter()
    burn(rounds)
    return time.perf_counter() - began


_BARE = """
import sys, time
from benchmarks.app import burn
print("ready", flush=True)
sys.stdin.read()
for _ in range(int(sys.argv[1])):
    burn(int(sys.argv[2]))
"""


def _bare(jobs: int, rounds: int) -> float:
    """Seconds that bare processes take for the same jobs, dealt out evenly beforehand."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _BARE, str(jobs // PROCESSES), str(rounds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    began = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
    # The interpreter's own end is counted too; it is a few milliseconds of some seconds.
    for process in running:
        process.wait(120)
    spent = time.perf_counter() - began
    for process in running:
        assert process.stdout is not None
        process.stdout.close()
    return spent
