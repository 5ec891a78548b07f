"""Waiting for results while the store is away: waited out up to the timeout.

A server is stopped for it; a SQLite file is never away for those who only read it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taskito import Queue, StorageUnavailable, TaskFailedError, group
from tools.private_postgres import Server

# Made before any test looks for what it leaves behind.
pytestmark = pytest.mark.usefixtures("restartable_server")


@pytest.fixture
def database(restartable_server: Server) -> Iterator[str]:
    restartable_server.ensure_running()
    url = restartable_server.new_database("taskito_test")
    yield url
    restartable_server.ensure_running()
    restartable_server.drop_database(url)


def test_an_outage_is_waited_out_by_everything_that_waits_for_results(
    database: str, restartable_server: Server
) -> None:
    queue = Queue(db_url=database)

    @queue.task
    def double(number: int) -> int:
        return 2 * number

    with queue:
        members = group(double.s(1), double.s(2)).apply()
        with queue.embedded_worker(threads=1):
            assert members.results(30) == [2, 4]
        waits: list[Callable[[], object]] = [
            lambda: members.jobs[0].result(60),
            lambda: asyncio.run(members.jobs[0].aresult(60)),
            lambda: members.results(60),
            lambda: asyncio.run(members.aresults(60)),
            lambda: members.wait(60),
        ]
        restartable_server.stop("fast")
        with ThreadPoolExecutor(len(waits)) as threads:
            began = time.monotonic()
            futures = [threads.submit(wait) for wait in waits]
            with pytest.raises(StorageUnavailable):
                members.jobs[0].result(1.5)
            assert time.monotonic() - began >= 1.4, "it was waited for"
            assert not any(future.done() for future in futures)
            restartable_server.ensure_running()
            values = [future.result(60) for future in futures]

    assert values[:4] == [2, 2, [2, 4], [2, 4]]
    assert values[4] == {"complete": 2}


def test_what_a_job_without_retries_raises_says_that_it_failed(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "jobs.db")

    @queue.task(max_retries=0)
    def fail() -> None:
        raise ValueError("bad")

    with queue, queue.test_mode(), pytest.raises(TaskFailedError) as failed:
        fail.delay().result()

    assert str(failed.value).endswith("failed: ValueError: bad")
    assert failed.value.type_name == "ValueError"
    assert "in fail" in (failed.value.remote_traceback or "")
