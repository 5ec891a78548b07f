"""Jobs per second: draining and enqueueing, each beside the bare store."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.app import register
from benchmarks.stores import Backend, Store
from benchmarks.workers import ROOT, BenchmarkFailed, until, worker
from taskito import Call, Queue
from taskito_core import Complete, Outcome, Want, WorkerInfo, new_id

REPETITIONS = 3
BATCH = 100
BULK = 5000  #: jobs of one enqueue_many()


def drain(backend: Backend, scale: float) -> dict[str, Any]:
    """No-op jobs through a worker of 2 processes, results stored, and through the bare loop."""
    jobs = int(30_000 * scale)
    return {
        "what": f"{jobs} no-op jobs, results stored, 2 processes; bare: exchange(), batch {BATCH}",
        **in_turns(backend, jobs, "bare", _bare_drain, _worker_drain),
        "target": {"ratio": 0.6 if backend.name == "postgres" else 0.25},
    }


Drain = Callable[[Store, int], float]  #: seconds that so many jobs take on an empty store


def in_turns(backend: Backend, jobs: int, beside: str, other: Drain, ours: Drain) -> dict[str, Any]:
    """Jobs per second of two drains that take turns, each on a fresh store, and their ratio."""
    rates: dict[Drain, list[float]] = {other: [], ours: []}
    for _ in range(REPETITIONS):
        for drained, found in rates.items():
            with backend.fresh() as store:
                found.append(jobs / drained(store, jobs))
    return {
        "jobs_per_second": round(median(rates[ours])),
        f"{beside}_jobs_per_second": round(median(rates[other])),
        "ratio": round(median(rates[ours]) / median(rates[other]), 3),
        "repetitions": [round(one) for one in rates[ours]],
    }


def fill(store: Store, jobs: int) -> None:
    """Enqueue so many no-op jobs."""
    with store.queue() as queue:
        enqueue_in_bulks(queue, register(queue).noop, jobs)


def enqueue_in_bulks(queue: Queue, call: Call[[], object], jobs: int) -> None:
    """So many jobs of this call."""
    for start in range(0, jobs, BULK):
        queue.enqueue_many(call.spec() for _ in range(min(BULK, jobs - start)))


def _bare_drain(store: Store, jobs: int) -> float:
    """Seconds that the plugin's own claim and settle statements take, fused, from one process."""
    fill(store, jobs)
    queue = store.queue()
    storage, me = queue.storage, new_id()
    storage.register(
        WorkerInfo(
            id=me,
            host=socket.gethostname(),
            pid=os.getpid(),
            app="bench",
            queues=("default",),
            tasks=("noop",),
            procs=0,
            version="0",
        )
    )
    settled, token = 0, int.from_bytes(os.urandom(3), "big") << 32
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    while settled < jobs:
        token += 1
        answer = storage.exchange(me, outcomes, Want(BATCH, ("default",), ("noop",), token))
        settled += len(answer.recorded)
        outcomes = [Complete(claim.id, claim.token, b"null", answer.now) for claim in answer.claims]
        if not outcomes and settled < jobs:
            raise BenchmarkFailed(f"the bare loop found {settled} of {jobs} jobs")
    spent = time.perf_counter() - started
    storage.unregister(me)
    queue.close()
    return spent


def _worker_drain(store: Store, jobs: int) -> float:
    """Seconds from the first start to the last recorded end by the store's clock, the boot left out."""
    fill(store, jobs)
    with worker(store):
        until(lambda: store.unfinished() == 0, f"draining {jobs} jobs", interval=0.25)
    drained = store.drained()
    if drained.complete != jobs:
        raise BenchmarkFailed(f"{drained.complete} of {jobs} jobs completed")
    return drained.seconds


def enqueue(backend: Backend, scale: float) -> dict[str, Any]:
    """One job per commit, and many in one, beside a plain table of the same durability."""
    single, many = int(500 * scale) or 1, int(10_000 * scale) or 1
    found: dict[str, list[float]] = {"single": [], "bare_single": [], "many": [], "bare_many": []}
    with backend.fresh() as store:
        queue = store.queue()
        noop = register(queue).noop
        noop.delay()
        store.bare_rows(1, one_by_one=True)
        for _ in range(REPETITIONS):
            found["bare_single"].append(single / _seconds(lambda: store.bare_rows(single, one_by_one=True)))
            found["single"].append(single / _seconds(lambda: [noop.delay() for _ in range(single)]))
            found["bare_many"].append(many / _seconds(lambda: store.bare_rows(many, one_by_one=False)))
            found["many"].append(
                many / _seconds(lambda: queue.enqueue_many([noop.spec() for _ in range(many)]))
            )
        queue.close()
    rate = {name: median(values) for name, values in found.items()}
    bulk = "binary COPY" if backend.name == "postgres" else "executemany"
    return {
        "what": f"delay() beside one-row commits; enqueue_many of {many} beside {bulk} into a plain table",
        "delay_per_second": round(rate["single"]),
        "bare_insert_per_second": round(rate["bare_single"]),
        "delay_ratio": round(rate["single"] / rate["bare_single"], 3),
        "enqueue_many_per_second": round(rate["many"]),
        "bare_bulk_per_second": round(rate["bare_many"]),
        "enqueue_many_ratio": round(rate["many"] / rate["bare_many"], 3),
    }


def producers(backend: Backend, scale: float) -> dict[str, Any]:
    """Jobs per second that 1, 4 and 16 processes enqueue together, one per commit."""
    each = int(200 * scale) or 1
    found = {}
    for count in (1, 4, 16):
        with backend.fresh() as store:
            queue = store.queue()
            register(queue).noop.delay()
            queue.close()
            found[str(count)] = round(_together(store, count, each))
    return {"what": f"processes that call delay() {each} times each, jobs/s in all", "jobs_per_second": found}


def _together(store: Store, count: int, each: int) -> float:
    command = [sys.executable, "-m", "benchmarks.producer", str(each)]
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **store.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(count)
    ]
    for process in running:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise BenchmarkFailed("a producer did not start")
    started = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
    for process in running:
        if process.wait(120):
            raise BenchmarkFailed(f"a producer ended with exit code {process.returncode}")
    spent = time.perf_counter() - started
    for process in running:
        assert process.stdout is not None
        process.stdout.close()
    return count * each / spent


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
