"""Signals and deadlines: what they end, what they hand back, and the exit code."""

from __future__ import annotations

import os
import signal
import time

import pytest

from taskito_core.job import JobStatus
from tests.faults.harness import Worker, children_of, finished, in_session, wait_until


def four_naps(app, worker, seconds=1.0):
    """Six naps for two children: two run, four wait."""
    jobs = app.nap.map([seconds] * 6)
    worker.started(2)
    return [job.id for job in jobs]


def each_ran_to_its_end_or_not_at_all(app, worker, ids):
    jobs = {job.id: job for job in app.queue.storage.get(ids)}
    starts = worker.starts()
    complete = {job_id for job_id, job in jobs.items() if job.status is JobStatus.COMPLETE}
    assert complete == set(starts)
    assert set(starts.values()) == {1}
    waiting = [job for job in jobs.values() if job.id not in complete]
    assert waiting
    for job in waiting:
        assert job.status is JobStatus.PENDING
        assert (job.retry_count, job.crashes, job.interruptions, job.token) == (0, 0, 0, None)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_running_jobs_finish_and_hands_back_the_rest(app, start_worker, signum):
    worker = start_worker()
    ids = four_naps(app, worker)

    worker.signal(signum)

    assert worker.wait() == 0
    worker.nothing_left()
    each_ran_to_its_end_or_not_at_all(app, worker, ids)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_every_process_means_the_same(app, start_worker, signum):
    worker = start_worker()
    ids = four_naps(app, worker)

    worker.signal_group(signum)

    assert worker.wait() == 0
    worker.nothing_left()
    each_ran_to_its_end_or_not_at_all(app, worker, ids)


def test_ctrl_c_in_a_terminal_drains(app, backend_url, tmp_path):
    worker = Worker(backend_url, tmp_path, "--procs", "2")
    with worker.in_terminal(shows_output=True) as (process, terminal):
        ids = [job.id for job in app.nap.map([1.0] * 6)]
        worker.started(2)

        terminal.write(b"\x03")

        wait_until(lambda: drain(terminal) or process.poll() is not None, 40, "the worker ends")
        assert process.returncode == 0
        each_ran_to_its_end_or_not_at_all(app, worker, ids)


@pytest.mark.parametrize("nohup", [False, True])
def test_a_worker_ends_with_its_terminal_but_not_with_nohup(app, backend_url, tmp_path, nohup):
    worker = Worker(backend_url, tmp_path, "--procs", "1")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    try:
        with worker.in_terminal(shows_output=False) as (process, terminal):
            app.nap.delay(0).result(60)
            [pid] = children_of(process.pid)

            terminal.close()

            if nohup:
                assert [job.result(60) for job in app.nap.map([0.3] * 3)] == ["rested"] * 3
                os.kill(pid, signal.SIGTERM)
            assert process.wait(40) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ("the terminal is gone" in worker.output()) is not nohup


def drain(terminal):
    """Read what the terminal shows, so that its writers never block."""
    os.set_blocking(terminal.fileno(), False)
    try:
        while terminal.read(65536):
            pass
    except OSError:
        pass


def test_two_quick_presses_count_once(app, start_worker):
    worker = start_worker()
    ids = four_naps(app, worker)

    worker.signal(signal.SIGINT)
    worker.signal(signal.SIGINT)

    assert worker.wait() == 0
    each_ran_to_its_end_or_not_at_all(app, worker, ids)


def second_signal(worker):
    worker.signal(signal.SIGINT)
    time.sleep(1.0)  # The distance of the two presses is what is tested.
    worker.signal(signal.SIGINT)


def test_the_second_signal_interrupts_and_the_job_goes_back_uncharged(app, start_worker):
    worker = start_worker()
    job = app.nap.delay(60)
    worker.started(1)

    second_signal(worker)

    assert worker.wait(10) == 75
    worker.nothing_left()
    [row] = app.queue.storage.get([job.id])
    assert row.status is JobStatus.PENDING
    assert (row.retry_count, row.crashes, row.interruptions) == (0, 0, 0)


def test_the_third_signal_kills_what_swallows_everything(app, start_worker):
    worker = start_worker()
    job = app.stubborn.delay(60)
    worker.started(1)

    second_signal(worker)
    wait_until(lambda: worker.lines("swallowed"), 10)
    time.sleep(1.0)  # Sooner, it would be the same keypress.
    worker.signal(signal.SIGINT)

    assert worker.wait(10) == 130
    worker.nothing_left()
    assert ["swallowed", "WorkerShutdown"] in worker.lines("swallowed")
    [row] = app.queue.storage.get([job.id])
    assert row.status is JobStatus.PENDING
    assert (row.retry_count, row.crashes) == (0, 0)


def test_without_a_second_signal_the_deadlines_interrupt_and_kill(app, start_worker):
    worker = start_worker("--graceful-timeout", "1")
    job = app.stubborn.delay(60)
    worker.started(1)

    began = time.monotonic()
    worker.signal(signal.SIGTERM)

    assert worker.wait(20) == 75
    assert time.monotonic() - began < 10
    worker.nothing_left()
    assert app.queue.storage.get([job.id])[0].status is JobStatus.PENDING


@pytest.mark.faults
def test_with_the_default_grace_the_worker_is_out_within_thirty_seconds(app, start_worker):
    worker = start_worker()
    app.stubborn.delay(120)
    worker.started(1)

    began = time.monotonic()
    worker.signal(signal.SIGTERM)

    assert worker.wait(40) == 75
    assert 27 < time.monotonic() - began < 32
    worker.nothing_left()


def test_sigquit_logs_every_stack_and_interrupts(app, start_worker):
    worker = start_worker()
    app.nap.delay(60)
    worker.started(1)

    worker.signal(signal.SIGQUIT)

    assert worker.wait(10) == 75
    assert "in nap" in worker.output()


def test_sigterm_while_the_app_is_imported_ends_at_once(start_worker, tmp_path):
    (tmp_path / "sleepy.py").write_text("import time\ntime.sleep(60)\n")
    worker = start_worker("--app", "sleepy:queue", procs=0)
    wait_until(lambda: len(in_session(worker.pid)) >= 2, 20, "the zygote is importing")

    worker.signal(signal.SIGTERM)

    assert worker.wait(5) == 0
    worker.nothing_left()


def test_a_storm_of_signals_is_at_most_two_steps(app, start_worker):
    worker = start_worker()
    job = app.nap.delay(0.3)
    worker.started(1)

    for _ in range(200):
        worker.signal(signal.SIGTERM)
        time.sleep(0.002)

    assert worker.wait() in (0, 75)
    finished_or_back = app.queue.storage.get([job.id])[0]
    assert finished_or_back.status in (JobStatus.COMPLETE, JobStatus.PENDING)


def test_what_was_handed_back_is_run_by_the_next_worker(app, start_worker):
    worker = start_worker()
    ids = four_naps(app, worker)
    worker.signal(signal.SIGTERM)
    worker.wait()

    start_worker()

    finished(app.queue.storage, ids)
    assert set(worker.starts().values()) == {1}
