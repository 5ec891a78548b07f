"""Jobs that run nowhere: claimed by a worker that nobody watches any more."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from taskito import Queue
from taskito_testing import claim, make_worker


def test_a_claim_that_was_committed_after_its_worker_was_buried_is_found(sqlite_path: Path) -> None:
    with Queue(db_path=sqlite_path) as queue:

        @queue.task(name="answer")
        def answer() -> int:
            return 42

        lost = make_worker()
        queue.storage.register(lost)
        result = answer.delay()
        assert claim(queue.storage, lost.id)
        with contextlib.closing(sqlite3.connect(sqlite_path)) as connection, connection:
            connection.execute("UPDATE workers SET status = 'dead'")

        with queue.embedded_worker(threads=1):
            assert result.result(timeout=20) == 42
