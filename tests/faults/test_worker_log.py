"""What a worker says of itself while it begins, works and ends."""

from __future__ import annotations

import signal

import pytest

from tests.faults.harness import Worker, wait_until


def test_a_worker_begins_by_naming_its_tasks(start_worker, tmp_path):
    text = "from taskito import Queue\nqueue = Queue()\n"
    text += "".join(f"queue.task(len, name='t{number:02d}')\n" for number in range(32))
    (tmp_path / "manyapp.py").write_text(text)
    worker = start_worker(procs=1, app="manyapp:queue")

    assert "32 tasks: t00, t01, " in worker.output()
    assert "t28, t29 and 2 more" in worker.output()


def test_draining_says_what_a_second_signal_would_do(app, start_worker):
    worker = start_worker("--graceful-timeout", "20")
    app.nap.map([1.0] * 2)
    worker.started(2)

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    said = "running jobs may end within 20 s; a second signal interrupts 2 running jobs"
    assert f"draining: nothing new is begun, {said}" in worker.output()


def test_in_a_terminal_the_second_signal_is_called_ctrl_c(app, backend_url, tmp_path):
    worker = Worker(backend_url, tmp_path, "--procs", "1")
    with worker.in_terminal(shows_output=False) as (process, terminal):
        app.nap.delay(1.0)
        worker.started(1)

        terminal.write(b"\x03")

        wait_until(lambda: process.poll() is not None, 20, "the worker ends")
    assert "Ctrl-C again interrupts 1 running job\n" in worker.output()


def test_draining_with_nothing_to_wait_for_says_so(start_worker):
    worker = start_worker()

    worker.signal(signal.SIGINT)

    assert worker.wait() == 0
    assert "draining: nothing new is begun, and no job is running" in worker.output()


@pytest.mark.parametrize("level", ["debug", "info"])
def test_at_debug_level_there_is_a_line_for_each_job_that_ended(app, start_worker, level):
    worker = start_worker("--log-level", level, procs=1)
    jobs = [app.add.delay(1, number) for number in range(3)]
    assert [job.result(30) for job in jobs] == [1, 2, 3]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0

    lines = [line for line in worker.output().splitlines() if "(faultapp.add) returned after 0.0" in line]

    assert len(lines) == (3 if level == "debug" else 0)
    assert all(any(job.id in line for line in lines) for job in jobs) == (level == "debug")
