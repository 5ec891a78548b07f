"""Limits over real workers: rates, places of a key, breakers. Counted from what the jobs wrote down."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict

import pytest

from taskito import MaxRetriesExceededError

from .conftest import LONG


def most_in(window: float, moments: list[float]) -> int:
    """The largest number of moments in any window of this length."""
    return max(bisect.bisect_right(moments, start + window) - at for at, start in enumerate(moments))


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

    waiting = [app.fragile.delay(True) for _ in range(5)]

    [breaker] = [one for one in app.queue.circuit_breakers() if one.task_name.endswith("fragile")]
    assert breaker.state == "open"
    assert [job.result(LONG) for job in waiting] == [True] * 5
    assert len(worker.lines("fragile")) == 8
    wait_until(lambda: [one.state for one in app.queue.circuit_breakers()] == ["closed"])
