"""Limits over real workers: rates, places of a key, breakers. Counted from what the jobs wrote down."""

from __future__ import annotations

import bisect
import itertools
import time
from collections import defaultdict

import pytest

from taskito import JobStatus, MaxRetriesExceededError

from .conftest import LONG


def most_in(window: float, moments: list[float]) -> int:
    """The largest number of moments in any window of this length."""
    return max(bisect.bisect_right(moments, start + window) - at for at, start in enumerate(moments))


def states(app) -> list[str]:
    return [breaker.state for breaker in app.queue.circuit_breakers()]


def at_rest(app) -> bool:
    return app.queue.stats()["running"] == 0


def test_two_workers_together_never_start_more_than_a_rate_allows(app, start, wait_until):
    start(procs=2)
    worker = start(procs=2)

    app.limited.map(range(40))
    wait_until(lambda: len(worker.lines("limited")) == 40, 30)

    moments = sorted(float(line[2]) for line in worker.lines("limited"))
    for window in (0.5, 1.0, 2.0):
        # One more than the bucket: a job may begin up to one refill after its token was taken.
        assert most_in(window, moments) <= 10 + 10 * window + 1
    assert sorted(int(line[1]) for line in worker.lines("limited")) == list(range(40))


def test_a_limited_backlog_goes_on_at_its_rate_and_not_from_one_look_to_the_next(app, start, wait_until):
    worker = start(procs=1)
    app.limited.map(range(30))

    wait_until(lambda: len(worker.lines("limited")) == 30, 30)

    moments = sorted(float(line[2]) for line in worker.lines("limited"))
    # A token comes every tenth of a second; a worker that nothing wakes looks every five seconds.
    assert max(after - before for before, after in itertools.pairwise(moments)) < 2.5


def test_a_limited_backlog_does_not_hold_up_other_tasks(app, start):
    worker = start(procs=2)
    app.limited.map(range(60))

    done = [job.result(LONG) for job in app.free.map(range(200))]

    assert done == list(range(200))
    assert len(worker.lines("limited")) < 60


def test_a_job_that_its_rate_holds_back_says_when_it_may_start(app, start):
    start(procs=1)
    app.daily.delay().result(LONG)

    job = app.daily.delay()

    [blocker] = app.queue.explain(job.id).blockers
    assert "the rate limit of task jobsapp.daily lets the next job start in 86" in blocker.text


def test_no_two_jobs_of_a_key_ever_run_at_once_over_two_workers(app, start, wait_until):
    start(procs=2)
    worker = start(procs=2)

    jobs = [app.keyed.delay(user, 0.02) for _ in range(12) for user in ("ann", "bob", "cy")]
    for job in jobs:
        job.result(LONG)

    inside: dict[str, set[str]] = defaultdict(set)
    for word, user, job_id in (line for line in worker.lines() if line[0] in ("enter", "leave")):
        if word == "enter":
            assert not inside[user], f"{job_id} entered while {inside[user]} was inside"
            inside[user].add(job_id)
        else:
            inside[user].remove(job_id)
    assert len(worker.lines("enter")) == len(jobs)


def test_the_next_of_a_key_begins_when_there_is_a_place_and_not_at_the_next_look(app, start):
    start(procs=1)
    app.keyed.delay("ann", 0.0).result(LONG)
    began = time.monotonic()

    for job in [app.keyed.delay("ann", 0.0) for _ in range(12)]:
        job.result(LONG)

    # A worker that nothing wakes looks every second on SQLite, and every five on PostgreSQL.
    assert time.monotonic() - began < 6


def test_a_job_of_a_key_begins_when_it_is_due_and_not_at_the_next_look(app, start):
    start(procs=1)
    app.keyed.delay("ann", 0.0).result(LONG)
    began = time.monotonic()

    for _ in range(8):
        app.keyed.using(delay=0.1).delay("ann", 0.0).result(LONG)

    assert time.monotonic() - began < 5


def test_no_more_jobs_of_a_task_run_than_it_allows(app, start):
    worker = start(procs=4)

    for job in app.at_most_two.map([0.05] * 20):
        job.result(LONG)

    inside = most = 0
    for line in worker.lines():
        inside += {"enter": 1, "leave": -1}.get(line[0], 0)
        most = max(most, inside)
    assert most == 2


def test_a_breaker_opens_after_its_threshold_and_closes_after_a_good_probe(app, start, wait_until):
    worker = start(procs=1)
    for _ in range(3):
        with pytest.raises(MaxRetriesExceededError):
            app.fragile.delay(False).result(LONG)

    # What is enqueued before the worker has told the breaker of the last failure may still start.
    wait_until(lambda: states(app) == ["open"])
    waiting = [app.fragile.delay(True) for _ in range(5)]

    assert [job.result(LONG) for job in waiting] == [True] * 5
    assert len(worker.lines("fragile")) == 8
    wait_until(lambda: states(app) == ["closed"])


@pytest.mark.parametrize("task_name", ["brittle", "brittle_and_limited"])
@pytest.mark.parametrize("workers", [1, 2])
def test_of_a_thousand_failing_jobs_a_breaker_lets_no_more_die_than_children_had_begun(
    app, start, wait_until, workers, task_name
):
    task = getattr(app, task_name)
    jobs = task.map([False] * 1000)
    for _ in range(workers):
        worker = start(procs=2)

    wait_until(lambda: states(app) == ["open"] and at_rest(app))

    # One failure less than open it, and one of each child that had begun by then.
    dead = [job for job in jobs if job.refresh().status is JobStatus.DEAD]
    assert 2 <= len(dead) <= 1 + 2 * workers
    assert len(worker.lines("brittle")) == len(dead)
    others = [job.to_dict() for job in jobs if job not in dead]
    assert {(job["status"], job["retry_count"], job["interruptions"]) for job in others} == {
        ("pending", 0, 0)
    }


def test_jobs_that_learned_to_be_short_do_not_die_in_a_batch_when_they_begin_to_fail(app, start, wait_until):
    worker = start(procs=2)
    assert all(job.result(LONG) for job in app.brittle.map([True] * 200))
    jobs = app.brittle.map([False] * 500)

    wait_until(lambda: states(app) == ["open"] and at_rest(app))

    assert 2 <= len(worker.lines("brittle")) - 200 <= 3
    assert app.queue.stats()["pending"] >= len(jobs) - 3


def test_a_job_that_an_open_breaker_holds_back_says_so_and_is_charged_nothing(app, start, wait_until):
    start(procs=1)
    with pytest.raises(MaxRetriesExceededError):
        app.shut.delay(False).result(LONG)
    wait_until(lambda: states(app) == ["open"])

    job = app.shut.delay(True)

    [blocker] = app.queue.explain(job.id).blockers
    assert "circuit breaker of task jobsapp.shut is open until" in blocker.text
    found = job.to_dict()
    assert (found["status"], found["retry_count"], found["interruptions"]) == ("pending", 0, 0)


def test_a_reset_by_hand_lets_waiting_jobs_start_although_the_cooldown_is_not_over(app, start, wait_until):
    start(procs=1)
    with pytest.raises(MaxRetriesExceededError):
        app.shut.delay(False).result(LONG)
    wait_until(lambda: states(app) == ["open"])
    job = app.shut.delay(True)

    assert app.queue.reset_circuit_breaker("jobsapp.shut")

    assert job.result(LONG) is True
    assert states(app) == ["closed"]


def test_a_probe_that_dies_with_its_worker_does_not_keep_the_breaker_shut(app, start, wait_until, tmp_path):
    worker = start(procs=1)
    for _ in range(3):
        with pytest.raises(MaxRetriesExceededError):
            app.fragile.delay(False).result(LONG)
    wait_until(lambda: states(app) == ["open"])
    held = tmp_path / "held"
    held.touch()
    probe = app.fragile.delay(True, str(held))
    wait_until(lambda: len(worker.lines("fragile")) == 4)
    assert states(app) == ["half_open"]

    worker.kill_everything()
    held.unlink()
    start(procs=1)

    assert probe.result(LONG) is True
    wait_until(lambda: states(app) == ["closed"])
