"""How soon: pickup and result of a single job, starts, imports, and what an idle worker costs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.app import register
from benchmarks.stores import Backend, Postgres, Store
from benchmarks.workers import (
    ROOT,
    context_switches,
    cpu_seconds,
    processes,
    proportional_memory,
    until,
    warm,
    worker,
)

IDLE_SECONDS = 20.0


def pickup(backend: Backend, scale: float) -> dict[str, Any]:
    """One job at a time to an idle worker: from before delay() to its start, and from its end to result()."""
    samples = max(int(200 * scale), 20)
    started, returned = [], []
    pause = random.Random(7)
    with backend.fresh() as store:
        queue = store.queue()
        with worker(store):
            warm(queue)
            stamp = register(queue).stamp
            for _ in range(samples):
                asked = time.monotonic()
                ran = stamp.delay().result(timeout=30)
                returned.append((time.monotonic() - ran) * 1000)
                started.append((ran - asked) * 1000)
                # At random, so as not to march in step with anybody's timer.
                time.sleep(pause.uniform(0.01, 0.06))
        queue.close()
    return {
        "what": f"{samples} single jobs, durable commits, worker idle; milliseconds",
        "pickup_ms": _percentiles(started),
        "result_ms": _percentiles(returned),
        "target": {"pickup_p50_ms": 4.0 if backend.name == "postgres" else 3.0},
    }


def turns(backend: Backend, scale: float) -> dict[str, Any]:
    """One job after the other, as a script does that needs each result: delay(), result(), and again."""
    count = max(int(300 * scale), 20)
    spent = []
    with backend.fresh() as store:
        queue = store.queue()
        with worker(store):
            warm(queue)
            stamp = register(queue).stamp
            for _ in range(count):
                began = time.monotonic()
                stamp.delay().result(timeout=30)
                spent.append((time.monotonic() - began) * 1000)
        queue.close()
    return {
        "what": f"{count} turns of delay() and result(), back to back; milliseconds",
        "turn_ms": _percentiles(spent),
        "target": {"turn_p50_ms": 5.0},
    }


def idle(backend: Backend, scale: float) -> dict[str, Any]:
    """What a worker of 2 processes costs while there is nothing to do."""
    span = max(IDLE_SECONDS * scale, 5.0)
    with backend.fresh() as store:
        queue = store.queue()
        with worker(store) as process:
            warm(queue)
            queue.close()
            # PostgreSQL reports the transactions of an idle connection up to 10 s late.
            time.sleep(12.0 if isinstance(backend, Postgres) else 2.0)
            pids = processes(process.pid)
            before = (
                time.monotonic(),
                cpu_seconds(pids),
                context_switches(pids),
                _transactions(backend, store),
            )
            time.sleep(span)
            after = time.monotonic(), cpu_seconds(pids), context_switches(pids), _transactions(backend, store)
            memory, connections = proportional_memory(pids), _connections(backend, store)
    seconds = after[0] - before[0]
    found: dict[str, Any] = {
        "what": f"2 processes, {span:g} s without a job",
        "cpu_percent": round(100 * (after[1] - before[1]) / seconds, 2),
        "wakeups_per_second": round((after[2] - before[2]) / seconds, 1),
        "pss_mb": round(memory, 1),
        "processes": len(pids),
        "target": {"cpu_percent": 0.5},
    }
    if before[3] is not None and after[3] is not None:
        found["transactions_per_second"] = round((after[3] - before[3]) / seconds, 2)
        found["connections"] = connections
        found["target"]["transactions_per_second"] = 1.0
    return found


def start(backend: Backend, scale: float) -> dict[str, Any]:
    """From starting the command to the start of a job that was already there; the app imports in 0.1 s."""
    spent = []
    for _ in range(max(int(5 * scale), 3)):
        with backend.fresh() as store:
            queue = store.queue()
            job = register(queue).stamp.delay()
            began = time.monotonic()
            with worker(store, BENCH_IMPORT_SECONDS="0.1"):
                spent.append(job.result(timeout=60) - began)
            queue.close()
    return {"what": "start of the command to start of the first job", "seconds": round(median(spent), 3)}


def stop(backend: Backend, scale: float) -> dict[str, Any]:
    """From SIGINT to the end of an idle worker."""
    spent = []
    for _ in range(max(int(5 * scale), 3)):
        with backend.fresh() as store:
            queue = store.queue()
            with worker(store) as process:
                warm(queue)
                began = time.monotonic()
                process.send_signal(2)
                until(lambda process=process: process.poll() is not None, "stopping", 0.002)  # type: ignore[misc]
                spent.append(time.monotonic() - began)
            queue.close()
    return {"what": "SIGINT to exit, idle worker", "seconds": round(median(spent), 3)}


def imports(scale: float) -> dict[str, Any]:
    """What `import taskito` costs beyond starting Python, and how quick the command's help is."""
    times: dict[str, list[float]] = {"python": [], "taskito": [], "help": []}
    command = str(Path(sys.executable).with_name("taskito"))
    for _ in range(max(int(15 * scale), 5)):
        times["python"].append(_run([sys.executable, "-c", "pass"]))
        times["taskito"].append(_run([sys.executable, "-c", "import taskito"]))
        times["help"].append(_run([command, "--help"]))
    empty = median(times["python"])
    return {
        "what": "milliseconds; the import beyond an empty interpreter, the help in all",
        "import_taskito_ms": round((median(times["taskito"]) - empty) * 1000, 1),
        "help_ms": round(median(times["help"]) * 1000, 1),
        "empty_python_ms": round(empty * 1000, 1),
    }


def _run(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(
        command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"}
    )
    return time.perf_counter() - began


def _percentiles(samples: list[float]) -> dict[str, float]:
    cuts = quantiles(samples, n=100)
    return {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2), "p99": round(cuts[98], 2)}


def _transactions(backend: Backend, store: Store) -> int | None:
    """Transactions in the store's database so far, asked from another one."""
    if not isinstance(backend, Postgres):
        return None
    name = store.url.rpartition("/")[2]
    [[count]] = backend.server.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", (name,)
    )
    return int(count)


def _connections(backend: Backend, store: Store) -> int:
    # One is the benchmark's own.
    return len(backend.server.connections(store.url)) - 1 if isinstance(backend, Postgres) else 0
