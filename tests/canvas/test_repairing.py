"""A canvas of which a part has failed, mended by running that part again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskito import JobResult, JobStatus, Queue, TaskCancelledError, TaskFailedError, chain, chord, group
from tests.faults.conftest import start_worker
from tests.faults.harness import Worker

__all__ = ["start_worker"]

HERE = Path(__file__).parent
Run = Callable[[], None]


@pytest.fixture
def flaky(queue: Queue) -> SimpleNamespace:
    """``flaky.task`` fails until ``flaky.mended`` is true; it adds 1."""
    state = SimpleNamespace(mended=False)

    @queue.task(name="flaky", max_retries=0)
    def task(number: int = 0) -> int:
        if not state.mended:
            raise ValueError("on purpose")
        return number + 1

    state.task = task
    return state


def only_dead(queue: Queue) -> str:
    [job] = queue.list_jobs(status=JobStatus.DEAD)
    return job.id


_DOORS: dict[str, Callable[[Queue, str], JobResult[Any]]] = {
    "replay": lambda queue, job_id: queue.replay(job_id),
    "retry_dead": lambda queue, job_id: queue.retry_dead(job_id),
    "handle": lambda queue, job_id: JobResult(queue, job_id).replay(),
}


@pytest.mark.parametrize("door", _DOORS.values(), ids=_DOORS)
def test_a_chain_goes_on_where_it_stood_when_its_dead_step_is_run_again(
    queue: Queue, tasks: SimpleNamespace, flaky: SimpleNamespace, run: Run, door: Callable[..., Any]
) -> None:
    job = chain(tasks.add.s(1, 2), flaky.task.s(), tasks.add.s(10), tasks.add.s(100)).apply()
    run()
    with pytest.raises(TaskCancelledError):
        job.result(0)
    flaky.mended = True

    door(queue, only_dead(queue))
    assert job.status is JobStatus.PENDING
    run()

    assert job.result(0) == 114
    assert queue.stats()["cancelled"] == 0


def test_the_callback_of_a_chord_gets_the_results_in_their_old_order(
    queue: Queue, tasks: SimpleNamespace, flaky: SimpleNamespace, run: Run
) -> None:
    job = chord([tasks.add.s(1, 1), flaky.task.s(7), [tasks.add.s(3, 3)]], tasks.show.s()).apply()
    run()
    flaky.mended = True

    queue.retry_dead(only_dead(queue))
    run()

    assert job.result(0) == "([2, 8, 6],)"


def test_a_step_that_fails_again_can_be_run_again(
    queue: Queue, tasks: SimpleNamespace, flaky: SimpleNamespace, run: Run
) -> None:
    job = chain(flaky.task.s(1), tasks.add.s(10)).apply()
    run()
    for _ in range(3):
        [letter] = queue.dead_letters()
        queue.retry_dead(letter.job_id)
        run()
        assert job.status is JobStatus.CANCELLED
    flaky.mended = True

    [letter] = queue.dead_letters()
    queue.retry_dead(letter.job_id)
    run()

    assert job.result(0) == 12


def test_the_results_are_there_although_the_first_of_the_two_jobs_was_deleted(
    queue: Queue, tasks: SimpleNamespace, flaky: SimpleNamespace, run: Run
) -> None:
    job = chain(flaky.task.s(1), tasks.add.s(10)).apply()
    run()
    flaky.mended = True
    dead = only_dead(queue)
    again = queue.retry_dead(dead)
    queue.storage.delete([dead])
    run()

    assert (again.result(0), job.result(0)) == (2, 12)
    assert job.dependencies == [again.id]


def test_a_dead_callback_is_run_again_although_the_time_of_its_members_is_over(
    queue: Queue, tasks: SimpleNamespace, flaky: SimpleNamespace, run: Run
) -> None:
    header = [tasks.add.s(1, 2).set(result_ttl=0.001), tasks.add.s(3, 4).set(result_ttl=0.001)]
    last = chain(group(header), tasks.total.s().set(result_ttl=0.001), flaky.task.s()).apply()
    run()
    flaky.mended = True
    queue.storage.clock_shift = 3_600_000
    # The sum is needed by the job that died; its own members are not needed any more.
    assert (queue.storage.prune(100).jobs, queue.purge_completed(0)) == (2, 0)

    again = queue.retry_dead(last.id)
    queue.storage.prune(100)
    run()

    assert again.result(0) == 11


def test_the_log_of_each_revived_job_tells_what_happened(
    queue: Queue, tasks: SimpleNamespace, flaky: SimpleNamespace, run: Run
) -> None:
    job = chain(flaky.task.s(1), tasks.add.s(10)).apply()
    run()
    dead = only_dead(queue)

    again = queue.retry_dead(dead)

    [entry] = job.logs()
    assert entry.message == (
        f"pending again: job {dead}, without which it could not run, runs again as {again.id}; "
        f"before: parent {dead} was dead"
    )
    [record] = queue.replay_history(dead)
    assert (record.new_id, record.status_before) == (again.id, JobStatus.DEAD)


def test_the_end_of_a_chain_names_the_step_that_failed_and_its_error(
    tasks: SimpleNamespace, run: Run
) -> None:
    job = chain(tasks.add.s(1, 2), tasks.fail.s(), tasks.show.s("a"), tasks.show.s("b")).apply()
    run()

    with pytest.raises(TaskCancelledError) as caught:
        job.result(0)

    assert "of task 'fail' failed: ValueError: on purpose" in str(caught.value)
    assert isinstance(caught.value.__cause__, TaskFailedError)
    assert caught.value.__cause__.type_name == "ValueError"


def test_it_names_the_step_that_somebody_cancelled(tasks: SimpleNamespace, queue: Queue) -> None:
    job = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.show.s()).apply()
    [middle] = job.dependencies
    [first] = JobResult(queue, middle).dependencies
    queue.cancel_job(first)

    with pytest.raises(
        TaskCancelledError, match=f"job {first} of task 'add' was cancelled: .*somebody asked"
    ):
        job.result(0)


@pytest.mark.parametrize("command", [("dead", "retry"), ("jobs", "retry", "--yes")], ids=" ".join)
def test_the_commands_mend_a_chain_for_real_workers(
    backend_url: str, tmp_path: Path, start_worker: Callable[..., Worker], command: tuple[str, ...]
) -> None:
    mended = tmp_path / "mended"
    environment = {"PYTHONPATH": os.fspath(HERE), "MENDED": os.fspath(mended)}
    start_worker(procs=1, app="canvasapp:queue", **environment)
    with Queue(db_url=backend_url) as queue:
        add = queue.task(name="canvasapp.add")(lambda number, more: number + more)
        invert = queue.task(name="canvasapp.invert")(lambda number: 1 / number)
        job = chain(add.s(1, 1), invert.s(), add.s(1)).apply()
        with pytest.raises(TaskCancelledError, match="ZeroDivisionError: there is no inverse"):
            job.result(60)
        mended.touch()

        subprocess.run(
            [Path(sys.executable).parent / "taskito", *command, only_dead(queue)],
            env={**os.environ, "TASKITO_DB_URL": backend_url},
            capture_output=True,
            timeout=60,
            check=True,
        )

        assert job.result(60) == 1.5
