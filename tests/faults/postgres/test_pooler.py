"""Behind a pooler with fewer server connections than clients nobody waits for a connection that idles."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import HERE
from tools import pgbouncer

pytestmark = pytest.mark.skipif(
    pgbouncer.installed() is None,
    reason="PgBouncer is not here; `make test` or `python -m tools.pgbouncer` brings it",
)

#: A process with six connections of its own: it enqueues from as many threads, and then waits for all jobs.
PRODUCER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from taskito import Queue
with Queue(pool_size=6) as queue:
    noop = queue.task(name="faultapp.noop")(lambda: None)
    longest = 0.0
    def timed(call):
        global longest
        began = time.monotonic()
        value = call()
        longest = max(longest, time.monotonic() - began)
        return value
    with ThreadPoolExecutor(6) as threads:
        jobs = list(threads.map(lambda _: timed(noop.delay), range(int(sys.argv[1]))))
        for job in jobs:
            job.result(60)
        list(threads.map(lambda job: timed(lambda: queue.get_job(job.id)), jobs[:60]))
        list(threads.map(lambda _: timed(queue.stats), range(12)))
print(longest)
"""
#: Seconds that no single call may take, on a machine that is busy; one that hangs takes twenty and more.
SLOW = 15.0


@pytest.fixture(params=[1, 2, 3])
def backend_url(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    with pgbouncer.pooler(postgres_url, request.param) as url:
        yield url


def produce(url: str, directory: Path, processes: int, jobs: int) -> list[float]:
    """So many producers at once; the longest call of each."""
    command = [sys.executable, "-c", PRODUCER, str(jobs)]
    environment = {**os.environ, "TASKITO_DB_URL": url, "JOURNAL": str(directory / "journal")}
    running = [
        subprocess.Popen(command, cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    try:
        return [float(process.communicate(timeout=100)[0] or "inf") for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def test_producers_with_more_connections_than_the_pooler_has_wait_for_nobody(
    app, start_worker, backend_url, tmp_path
):
    worker = start_worker(procs=2)

    longest = produce(backend_url, tmp_path, processes=3, jobs=100)

    assert max(longest) < SLOW, longest
    assert app.queue.stats()["complete"] == 300, worker.output()
    began = time.monotonic()
    assert app.add.delay(2, 3).result(30) == 5
    assert time.monotonic() - began < SLOW
