"""Old and new versions of an app beside each other: each job runs where its task is known."""

from __future__ import annotations

from taskito_core.job import JobStatus

OLD_APP = """
from faultapp import square
from taskito import Queue

queue = Queue()
queue.task(name=square.name)(square.function)
"""


def worker_id(app, worker):
    return next(info.id for info in app.queue.workers() if info.pid == worker.pid)


def test_each_job_runs_where_its_task_is_known(app, start_worker, tmp_path):
    (tmp_path / "oldapp.py").write_text(OLD_APP)
    old = start_worker("--app", "oldapp:queue")
    specs = [app.square.spec(n) if n % 2 else app.slow_square.spec(n, 0.001) for n in range(300)]

    # The old worker alone: what it does not know stays for somebody who does.
    alone = app.queue.enqueue_many(specs)
    assert [job.result(30) for job in alone[1::2]] == [n * n for n in range(1, 300, 2)]
    rows = app.queue.storage.get([job.id for job in alone[::2]])
    assert all(row.status is not JobStatus.COMPLETE for row in rows)
    assert old.starts().keys() == {job.id for job in alone[1::2]}

    # With a new one beside it, and more of both kinds.
    new = start_worker()
    beside = app.queue.enqueue_many(specs)

    jobs = alone + beside
    assert [job.result(30) for job in jobs] == [n * n for n in range(300)] * 2
    assert set(new.starts().values()) == {1}
    rows = app.queue.storage.get([job.id for job in jobs])
    assert all(row.crashes == row.retry_count == row.interruptions == 0 for row in rows)
    assert {row.worker for row in rows if row.task_name == app.slow_square.name} == {worker_id(app, new)}
