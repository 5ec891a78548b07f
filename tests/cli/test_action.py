"""What cannot be done to a job is said beforehand, and counted."""

from __future__ import annotations

import json

import pytest

from taskito import Queue
from tests.cli.conftest import Run


def dead_jobs(queue: Queue, count: int) -> list[str]:
    @queue.task(name="broken", max_retries=0)
    def broken() -> None:
        raise ValueError("on purpose")

    with queue.embedded_worker(threads=1):
        jobs = [broken.delay() for _ in range(count)]
        for job in jobs:
            with pytest.raises(Exception, match="on purpose"):
                job.result(30)
    return [job.id for job in jobs]


def test_retry_prints_the_new_ids(ask: Run, queue: Queue) -> None:
    old = dead_jobs(queue, 2)

    done = ask("jobs", "retry", "--task", "broken", "--yes", "--json")

    answer = json.loads(done.stdout)
    assert (sorted(answer["done"]), answer["refused"], done.returncode) == (sorted(old), [], 0)
    assert {job.id: job.replay_of for job in queue.list_jobs(status="pending")} == {
        new: old for old, new in answer["new_ids"].items()
    }


def test_a_dry_run_counts_what_would_be_done_and_nothing_else(ask: Run, queue: Queue) -> None:
    first, second, third = dead_jobs(queue, 3)
    queue.retry_dead(first)

    selected = ask("jobs", "retry", "--task", "broken", "--dry-run")
    named = ask("jobs", "retry", first, second, "--dry-run", "--json")

    assert sorted(selected.stdout.split()) == sorted([second, third])
    assert "would retry: 2 jobs\n" in selected.stderr
    assert "it was run again, as job" in selected.stderr
    assert selected.returncode == 0
    assert json.loads(named.stdout) == {"action": "would retry", "done": [second], "refused": [first]}
    assert named.returncode == 1
    assert len(queue.dead_letters()) == 2


def test_what_a_selection_met_and_cannot_be_retried_is_left_out(ask: Run, queue: Queue) -> None:
    first, second = dead_jobs(queue, 2)
    queue.retry_dead(first)

    done = ask("jobs", "retry", "--task", "broken", "--yes")

    [new_id] = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert "retry: 1 job\n" in done.stderr
    replay = queue.get_job(new_id)
    assert replay is not None
    assert replay.replay_of == second


@pytest.mark.parametrize("select", [True, False])
def test_a_retry_that_is_refused_in_the_end_is_an_error(ask: Run, queue: Queue, select: bool) -> None:
    @queue.task(name="broken", max_retries=0)
    def broken() -> None:
        raise ValueError("on purpose")

    with queue.embedded_worker(threads=1):
        held, free = broken.using(unique_key="k").delay(), broken.delay()
        for job in (held, free):
            with pytest.raises(Exception, match="on purpose"):
                job.result(30)
    holder = queue.enqueue("other", unique_key="k")

    done = ask("jobs", "retry", *(["--task", "broken", "--yes"] if select else [held.id, free.id]))

    [new_id] = done.stdout.split()
    replay = queue.get_job(new_id)
    assert replay is not None
    assert replay.replay_of == free.id
    assert f"{held.id}: " in done.stderr
    assert holder.id in done.stderr
    assert "retry: 1 job, 1 could not be" in done.stderr
    assert done.returncode == 1


def test_what_cannot_be_cancelled_or_deleted_says_why(ask: Run, queue: Queue) -> None:
    parent = queue.enqueue("t")
    parent.cancel()
    live = queue.enqueue("t")
    done = queue.task(name="done")(lambda: 1)
    with queue.embedded_worker(threads=1, queues=["default"]):
        needed = done.delay()
        needed.result(30)
    queue.enqueue("t", depends_on=[needed.id])

    cancelled = ask("jobs", "cancel", parent.id)
    dry = ask("jobs", "delete", live.id, needed.id, parent.id, "--dry-run")
    deleted = ask("jobs", "delete", "--task", "done", "--yes")

    assert (cancelled.returncode, dry.returncode, deleted.returncode) == (1, 1, 0)
    assert f"{parent.id}: it is cancelled already" in cancelled.stderr
    assert f"{live.id}: it is pending" in dry.stderr
    assert f"{needed.id}: a live job depends on it" in dry.stderr
    assert dry.stdout.split() == [parent.id]
    assert f"left out: {needed.id} (a live job depends on it)" in deleted.stderr
    assert queue.get_job(needed.id) is not None
