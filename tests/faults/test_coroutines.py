"""Coroutines that a job leaves running: deaf ones cost nothing, kept ones live on, in real workers."""

from __future__ import annotations

import textwrap

import psycopg
import pytest

from taskito import JobStatus, Queue
from tests.faults.harness import wait_until

LOOP_APP = """
import asyncio, os
from taskito import Queue, current_job
queue = Queue()

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

@queue.task(timeout=2.0, max_retries=0)
async def leaves(seconds):
    asyncio.create_task(deaf(), name="poller")
    await asyncio.sleep(seconds)
    return os.getpid()

@queue.task(timeout=2.0)
async def whoami():
    return os.getpid()

pool = None

@queue.task(timeout=30, max_retries=4, retry_delays=[0.0])
async def ask(keep):
    from contextlib import nullcontext
    from psycopg_pool import AsyncConnectionPool
    global pool
    if pool is None:
        pool = AsyncConnectionPool(os.environ["POOL"], min_size=2, max_size=2, timeout=2, open=False)
        with current_job.keep_coroutines() if keep else nullcontext():
            await pool.open(wait=True)
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT 1")
        return (await cursor.fetchone())[0]
"""


@pytest.fixture
def start_loop_app(start_worker, tmp_path):
    (tmp_path / "loopapp.py").write_text(textwrap.dedent(LOOP_APP))
    return lambda **given: start_worker(app="loopapp:queue", procs=1, **given)


def test_a_job_that_has_returned_is_complete_whatever_its_coroutines_do(start_loop_app, backend_url):
    worker = start_loop_app()
    [child] = worker.job_children()
    with Queue(db_url=backend_url) as queue:
        jobs = [queue.enqueue("loopapp.leaves", (seconds,)) for seconds in (1.5, 0.0, 1.5)]

        assert [job.result(60) for job in jobs] == [child] * 3, "no process was ended for it"
        assert [job.errors for job in jobs] == [[], [], []]
        assert queue.enqueue("loopapp.whoami").result(30) == child
    wait_until(lambda: worker.output().count("poller (deaf)") >= 3)
    assert "task loopapp.leaves left coroutines running" in worker.output()


@pytest.mark.parametrize("keep", [True, False])
def test_a_pool_of_connections_that_is_kept_heals_after_they_broke(start_loop_app, backend_url, keep):
    """The pool's own workers make its connections; without them those that break are never replaced."""
    if not backend_url.startswith("postgres"):
        pytest.skip("the pool is one of PostgreSQL's")
    worker = start_loop_app(POOL=psycopg.conninfo.make_conninfo(backend_url, application_name="the pool"))
    with Queue(db_url=backend_url) as queue, psycopg.connect(backend_url, autocommit=True) as connection:
        assert queue.enqueue("loopapp.ask", (keep,)).result(30) == 1
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'the pool'"
        )
        assert ended.rowcount == 2

        after = queue.enqueue("loopapp.ask", (keep,))
        wait_until(lambda: after.refresh().status.finished, 60)
        assert (after.status is JobStatus.COMPLETE) is keep, after.errors
    assert ("which were cancelled" in worker.output()) is not keep, worker.output()
