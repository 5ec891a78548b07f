"""A task that waits for another job while it holds the only child: said where people look."""

from __future__ import annotations

import textwrap

import pytest

from taskito import Queue
from tests.faults.harness import wait_until

WAITING_APP = """
from taskito import Queue
queue = Queue()

@queue.task
def inner():
    return "inner"

@queue.task(max_retries=0)
def outer(seconds):
    return inner.delay().result(seconds)
"""


@pytest.fixture
def queue(backend_url):
    with Queue(db_url=backend_url) as queue:
        yield queue


def test_a_job_that_waits_for_one_that_no_child_is_left_for_says_so(start_worker, queue, tmp_path):
    (tmp_path / "waitingapp.py").write_text(textwrap.dedent(WAITING_APP))
    worker = start_worker(app="waitingapp:queue", procs=1)

    outer = queue.enqueue("waitingapp.outer", (8,))

    wait_until(lambda: queue.list_jobs(task_name="waitingapp.inner"))
    [inner] = queue.list_jobs(task_name="waitingapp.inner")
    wait_until(lambda: [str(one.kind) for one in queue.explain(inner.id).blockers] == ["no free child"])
    assert "1 jobs run in the 1 children that could run it" in str(queue.explain(inner.id))
    wait_until(lambda: f"waits for job {inner.id}" in worker.output())
    with pytest.raises(Exception, match=r"TimeoutError: .* it waits for one with room"):
        outer.result(30)
    assert [entry.level for entry in queue.task_logs(outer.id)] == ["warning"]
    assert inner.result(30) == "inner"
