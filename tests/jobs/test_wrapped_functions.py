"""A task whose body a careless wrapper keeps from running: the error says what the function is."""

from __future__ import annotations

import pytest

from taskito import TaskFailedError
from tests.faults.conftest import load

from .conftest import LONG

APP = """
import functools
from taskito import PickleSerializer, Queue

queue = Queue()

def careless(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

@queue.task
@careless
async def fetch(): ...

@queue.task(serializer=PickleSerializer("k"))
@careless
async def fetch_pickled(): ...

@queue.task
@careless
def count():
    yield 1

@queue.task
@careless
async def stream():
    yield 1
"""
SAID = {
    "fetch": "returned a coroutine that nothing has run: 'fetch' is async behind a wrapper that is not",
    "fetch_pickled": "returned a coroutine that nothing has run: 'fetch_pickled' is async behind",
    "count": "returned a generator that nothing has run: 'count' yields",
    "stream": "returned a generator that nothing has run: 'stream' yields",
}


def test_an_async_function_or_a_generator_behind_a_plain_wrapper_is_called_that(
    start_worker, tmp_path, backend_url, monkeypatch
):
    monkeypatch.setenv("TASKITO_DB_URL", backend_url)
    file = tmp_path / "wrapped_app.py"
    file.write_text(APP)
    worker = start_worker(app="wrapped_app:queue", procs=1)

    with load(file) as app:
        jobs = {name: getattr(app, name).delay() for name in SAID}
        for name, job in jobs.items():
            with pytest.raises(TaskFailedError, match=SAID[name]):
                job.result(LONG)
            assert len(job.errors) == 1, "another attempt would return the same"
    assert "never awaited" not in worker.output()
