"""The eleven tables, each alive: a feature writes it, and the public API reads it back."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest

from taskito import MaxRetriesExceededError, chain

from .conftest import LONG

TABLES = {
    *("jobs", "dead_letter", "rate_limits", "periodic_tasks", "job_errors", "job_dependencies"),
    *("task_metrics", "replay_history", "task_logs", "circuit_breakers", "workers"),
}


def filled(url: str) -> set[str]:
    """The tables that have rows. On PostgreSQL ``jobs`` is one table in parts, and counts as one."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return {name for name in TABLES if connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()}
    with psycopg.connect(url) as database:
        return {
            name for name in TABLES if database.execute(f"SELECT 1 FROM taskito.{name} LIMIT 1").fetchone()
        }


def test_each_of_the_eleven_tables_is_written_by_a_feature_and_read_by_another(
    app, backend_url, start, wait_until
):
    start(procs=1)
    queue = app.queue

    steps = chain(app.limited.s(1), app.free.s()).apply()
    said = app.talk.delay(1)
    failed = app.fragile.delay(False)
    assert (steps.result(LONG), said.result(LONG)) == (1, 1)
    with pytest.raises(MaxRetriesExceededError):
        failed.result(LONG)
    queue.replay(said.id).result(LONG)
    # Metrics are written now and then: those of other tasks may be there before the failed one's.
    wait_until(lambda: filled(backend_url) == TABLES and queue.metrics(app.fragile.name), 30)

    assert [letter.job_id for letter in queue.dead_letters()] == [failed.id]
    assert [error.message for error in queue.job_errors(failed.id)] == ["broken on purpose"]
    assert [entry.message for entry in queue.task_logs(said.id)] == ["line 0"]
    assert len(queue.replay_history(said.id)) == 1
    assert len(steps.dependencies) == 1
    assert [breaker.task_name for breaker in queue.circuit_breakers()] == [app.fragile.name]
    assert [state.entry.name for state in queue.periodic_tasks()] == [app.tick.name]
    assert [worker.app for worker in queue.workers()] == ["jobsapp:queue"]
    [measured] = queue.metrics(app.fragile.name)
    assert (measured.count, measured.failed) == (1, 1)
    assert measured.peak_memory > 0
