"""A worker that stands still in the middle of a transaction: what it holds there is free with its lease."""

from __future__ import annotations

import signal
from urllib.parse import urlsplit

import psycopg
import pytest

from taskito_core.job import JobStatus
from tests.faults.harness import Worker, finished, wait_until
from tools.private_postgres import Server

#: Sessions in the middle of a transaction: whether they wait for the rest of it, and whether they hold rows.
ACTIVE = """
SELECT wait_event IS NOT DISTINCT FROM 'ClientRead', backend_xid IS NOT NULL
  FROM pg_stat_activity WHERE datname = %s AND state = 'active' AND pid <> pg_backend_pid()
"""


@pytest.fixture
def backend_url(postgres_url: str) -> str:
    return postgres_url


def freeze_in_a_transaction(worker: Worker, server: Server, url: str) -> None:
    """Stop the worker again and again, until it stands where the server has half of an exchange."""
    name = (urlsplit(url).path[1:],)
    with psycopg.connect(server.url(), autocommit=True) as database:

        def is_caught() -> bool:
            worker.signal(signal.SIGSTOP)
            for _ in range(50):  # what was on its way is still being done
                active = database.execute(ACTIVE, name).fetchall()
            if all(waits for waits, _ in active) and any(holds for _, holds in active):
                return True
            worker.signal(signal.SIGCONT)
            return False

        wait_until(is_caught, 60, "the worker stands still in an exchange")


@pytest.mark.faults
def test_all_that_a_frozen_worker_holds_is_rescued_when_its_lease_ends(
    app, start_worker, postgres_server, postgres_url
):
    first = start_worker(procs=2)
    jobs = app.square.map(range(20_000))
    first.started(200)
    freeze_in_a_transaction(first, postgres_server, postgres_url)
    start_worker(procs=2)

    finished(app.queue.storage, [job.id for job in jobs], 60)

    first.signal(signal.SIGCONT)
    assert app.add.delay(2, 3).result(30) == 5
    wait_until(lambda: "registers anew" in first.output(), 30)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    rows, starts = app.queue.storage.get([job.id for job in jobs]), first.starts()
    assert {row.status for row in rows} == {JobStatus.COMPLETE}
    assert all(starts[row.id] <= 1 + row.interruptions for row in rows)
