"""What happens to a child happens to its job and to nobody else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from taskito_core.job import DeadReason, ErrorKind, JobStatus
from tests.faults.harness import finished, wait_until


def test_sigterm_to_a_child_replaces_it_after_its_job(app, start_worker):
    worker = start_worker()
    job = app.nap.delay(1.0)
    worker.started(1)
    busy = int(worker.lines("start")[0][2])
    before = worker.job_children()

    os.kill(busy, signal.SIGTERM)

    assert job.result(20) == "rested"
    wait_until(lambda: busy not in worker.job_children() and len(worker.job_children()) == 2, 10)
    assert set(before) - {busy} <= set(worker.job_children())
    assert app.queue.storage.get([job.id])[0].crashes == 0


def test_sigint_to_a_child_is_ignored(app, start_worker):
    worker = start_worker()
    before = worker.job_children()
    job = app.nap.delay(0.5)
    worker.started(1)

    os.kill(int(worker.lines("start")[0][2]), signal.SIGINT)

    assert job.result(20) == "rested"
    assert worker.job_children() == before


def test_a_killed_idle_child_is_replaced_and_no_job_notices(app, start_worker):
    worker = start_worker()
    app.noop.delay().result(20)
    victim = worker.job_children()[0]

    os.kill(victim, signal.SIGKILL)

    wait_until(lambda: victim not in worker.job_children() and len(worker.job_children()) == 2, 10)
    assert app.add.delay(1, 2).result(20) == 3
    assert app.queue.stats()["dead"] == 0


@pytest.mark.parametrize(
    ("task", "arguments", "cause"),
    [
        ("die", (int(signal.SIGKILL),), "SIGKILL"),
        ("segfault", (), "SIGSEGV"),
        ("leave", (0,), "exit code 0"),
    ],
)
def test_a_crash_is_counted_with_its_cause_and_the_job_runs_again(app, start_worker, task, arguments, cause):
    worker = start_worker()
    others = app.nap.map([0.3] * 3)
    job = getattr(app, task).delay(*arguments)

    assert job.result(30) == "survived"

    finished(app.queue.storage, [other.id for other in others])
    [row] = app.queue.storage.get([job.id])
    assert (row.crashes, row.retry_count, row.interruptions) == (1, 0, 0)
    [error] = app.queue.storage.errors(job.id)
    assert (error.kind, error.type) == (ErrorKind.CRASH, cause)
    assert all(other.crashes == 0 for other in app.queue.storage.get([other.id for other in others]))
    assert worker.starts()[job.id] == 2


def test_a_segfault_leaves_its_stack_with_the_error(app, start_worker):
    start_worker()
    job = app.segfault.delay()
    job.result(30)

    [error] = app.queue.storage.errors(job.id)

    assert error.traceback is not None
    assert "in segfault" in error.traceback


def test_sys_exit_fails_the_job_and_the_child_goes_on(app, start_worker):
    worker = start_worker(procs=1)
    before = worker.job_children()
    job = app.exit_politely.delay(1)

    finished(app.queue.storage, [job.id])

    assert app.queue.storage.errors(job.id)[0].type == "SystemExit"
    assert app.whoami.delay().result(20) == before[0]


def test_a_job_that_always_kills_its_process_is_dead_after_three_crashes(app, start_worker):
    worker = start_worker()
    poison = app.die.delay(int(signal.SIGKILL), True)
    others = app.square.map(range(100))

    finished(app.queue.storage, [poison.id, *(other.id for other in others)])

    [row] = app.queue.storage.get([poison.id])
    assert (row.status, row.crashes) == (JobStatus.DEAD, 3)
    assert worker.starts()[poison.id] == 3
    [letter] = app.queue.storage.dead_letters(10, None).letters
    assert (letter.job_id, letter.reason) == (poison.id, DeadReason.CRASHES)
    assert [other.result(20) for other in others] == [n * n for n in range(100)]


def test_a_result_that_was_written_before_the_child_died_counts(app, start_worker):
    worker = start_worker(procs=1)
    worker.signal(signal.SIGSTOP)
    child = worker.job_children()[0]
    worker.signal(signal.SIGCONT)
    job = app.nap.delay(0.5)
    worker.started(1)

    # The whole result is written, and nobody has read it.
    kill_unheard(worker, child, when_in=POLL)

    assert job.result(20) == "rested"
    [row] = app.queue.storage.get([job.id])
    assert (row.crashes, row.interruptions) == (0, 0)
    assert worker.starts()[job.id] == 1


#: The numbers of system calls on x86-64 and arm64.
POLL = ("7", "271", "73")  # poll, ppoll
SEND = ("44", "206", "46", "211")  # sendto, sendmsg


def kill_unheard(worker, child, when_in):
    """While the supervisor stands still: its job ends, and the child is killed in one of these calls."""
    worker.signal(signal.SIGSTOP)
    wait_until(lambda: worker.lines("end"), 10)
    wait_until(lambda: Path(f"/proc/{child}/syscall").read_text().split()[0] in when_in, 10)
    os.kill(child, signal.SIGKILL)
    worker.signal(signal.SIGCONT)


def test_jobs_waiting_behind_a_crash_run_elsewhere_uncharged(app, start_worker):
    start_worker(procs=1)
    for job in app.square.map(range(50)):
        job.result(30)  # Now square is known to be quick, and several travel together.

    jobs = [app.square.delay(n) for n in range(20)]
    poison = app.die.delay(int(signal.SIGKILL))
    more = [app.square.delay(n) for n in range(20)]

    assert [job.result(30) for job in (*jobs, *more)] == [n * n for n in (*range(20), *range(20))]
    assert poison.result(30) == "survived"
    for row in app.queue.storage.get([job.id for job in (*jobs, *more)]):
        assert (row.crashes, row.retry_count) == (0, 0)


def test_a_result_torn_by_death_is_dropped_and_the_job_runs_again(app, start_worker):
    worker = start_worker(procs=1)
    child = worker.job_children()[0]
    job = app.nap_then_big.delay(0.5, 8_000_000)
    worker.started(1)

    # The supervisor reads nothing, so the child can write only the beginning of its result.
    kill_unheard(worker, child, when_in=SEND)

    assert len(job.result(30)) == 8_000_000
    [row] = app.queue.storage.get([job.id])
    assert row.crashes + row.interruptions == 1
    assert worker.starts()[job.id] == 2


def test_eight_children_killed_at_once_are_all_replaced(app, start_worker):
    worker = start_worker(procs=8)
    app.noop.delay().result(20)
    wait_until(lambda: len(worker.job_children()) == 8)
    victims = worker.job_children()

    for victim in victims:
        os.kill(victim, signal.SIGKILL)

    wait_until(lambda: len(set(worker.job_children()) - set(victims)) == 8, 15, "eight new children")
    assert app.add.delay(1, 2).result(20) == 3


def test_when_the_whole_session_is_killed_the_next_start_runs_what_was_running(app, start_worker):
    worker = start_worker()
    jobs = app.nap.map([1.5] * 2)
    worker.started(2)

    worker.kill_everything()
    start_worker()

    assert [job.result(60) for job in jobs] == ["rested", "rested"]
    for row in app.queue.storage.get([job.id for job in jobs]):
        assert (row.interruptions, row.crashes, row.retry_count) == (1, 0, 0)
        assert app.queue.storage.errors(row.id)[0].kind is ErrorKind.INTERRUPTED
