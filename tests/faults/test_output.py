"""Whoever reads the output of a worker may be gone or stand still: no job fails for it, and no loop waits."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from tests.faults.harness import Worker, wait_until


@pytest.fixture
def start_writing_to(backend_url, tmp_path):
    """``start_writing_to(descriptor)``: a worker of one child with its outputs there."""
    workers = []

    def start(output):
        worker = Worker(backend_url, tmp_path, "--procs", "1", "--log-level", "debug")
        workers.append(worker)
        try:
            return worker.start(output).ready(1)
        finally:
            os.close(output)

    yield start
    for worker in workers:
        worker.kill_everything()


def test_a_reader_that_is_gone_costs_no_job_that_prints(app, start_writing_to):
    reading, writing = os.pipe()
    os.close(reading)
    worker = start_writing_to(writing)
    before = worker.job_children()

    assert [job.result(30) for job in app.prints.map(range(20))] == list(range(20))

    assert app.fails_and_prints.delay().result(30) == "at last"
    assert worker.job_children() == before
    worker.signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_reader_that_stands_still_blocks_neither_the_jobs_nor_the_supervisor(app, start_writing_to):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"." * 4096):
            pass
    os.set_blocking(writing, True)
    worker = start_writing_to(writing)
    before = worker.job_children()

    assert [job.result(30) for job in app.prints.map(range(20))] == list(range(20))
    assert app.fails_and_prints.delay().result(30) == "at last"

    [pid] = before
    os.kill(pid, signal.SIGKILL)  # of which the supervisor has something to say
    wait_until(lambda: worker.job_children() not in ([], before), 20)
    assert app.prints.delay(7).result(30) == 7
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert time.monotonic() - began < 15
    os.close(reading)
