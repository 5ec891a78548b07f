"""An attempt has one number: for its task, in what it logs, in the worker's log and in the job's errors."""

from __future__ import annotations

import logging

import pytest

from taskito import Queue, current_job
from taskito.config.logging import JobFilter
from taskito_testing import claim, make_worker


def test_an_attempt_after_an_interruption_is_the_second_everywhere(
    backend_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, int]] = []
    caplog.handler.addFilter(JobFilter())
    caplog.set_level(logging.WARNING)
    with Queue(db_url=backend_url) as queue:

        @queue.task(name="fails", max_retries=0)
        def fails() -> None:
            seen.append((current_job.attempt, current_job.retry_count))
            logging.getLogger("app").warning("in the task")
            raise ValueError("on purpose")

        job = fails.delay()
        gone = make_worker()
        queue.storage.register(gone)
        claim(queue.storage, gone.id, tasks=("fails",))
        queue.storage.rescue({gone.id: 0})
        with queue.embedded_worker(threads=1), pytest.raises(Exception, match="on purpose"):
            job.result(30)
        attempts = [error.attempt for error in job.errors]

    [logged] = [vars(record)["attempt"] for record in caplog.records if record.name == "app"]
    assert (seen, logged, attempts) == ([(2, 0)], 2, [1, 2])
    assert "failed, attempt 2: ValueError: on purpose" in caplog.text
