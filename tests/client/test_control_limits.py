"""Limits of a queue as a queue object says them, and what its producers, workers and readers see of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from taskito import BlockerKind, ConfigError, Queue, QueueFull, QueueLimits
from taskito_core.limits import RateLimit


def test_what_is_left_out_stays_and_none_lifts_a_limit(queue: Queue) -> None:
    queue.set_queue_limits("mail", concurrency=5, rate="100/m")

    changed = queue.set_queue_limits("mail", concurrency=None, max_pending=7)

    assert changed == QueueLimits(None, RateLimit(100 / 60, 100), 7)
    assert queue.queue_limits() == {"mail": changed}
    assert queue.set_queue_limits("mail", rate=None, max_pending=None) == QueueLimits()
    assert queue.queue_limits() == {}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"concurrency": 0}, "concurrency must be"),
        ({"concurrency": "5"}, "concurrency must be"),
        ({"rate": "often"}, "must be a count"),
        ({"max_pending": -1}, "max_pending must be"),
        ({"queue": "a,b", "max_pending": 1}, "comma"),
    ],
)
def test_a_limit_that_makes_no_sense_changes_nothing(
    queue: Queue, said: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        queue.set_queue_limits(**said)

    assert queue.queue_limits() == {}


def test_a_producer_is_told_that_a_queue_is_full_and_its_batch_is_not_stored(queue: Queue) -> None:
    queue.set_queue_limits(max_pending=2)
    task = queue.task(name="t")(lambda n: n)
    task.map([1, 2])

    for enqueue in (lambda: task.delay(3), lambda: task.map([3, 4]), lambda: queue.enqueue("t", (3,))):
        with pytest.raises(QueueFull, match="queue 'default' may hold 2 pending jobs"):
            enqueue()
    assert queue.stats()["pending"] == 2
    assert task.using(queue="other").delay(3).id


def test_no_more_jobs_of_a_queue_run_at_once_and_all_of_them_run(queue: Queue) -> None:
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2)
    queue.set_queue_limits(concurrency=2)

    @queue.task(name="t")
    def task(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(30)  # until a second one runs
        with lock:
            running -= 1
        return n

    with queue.embedded_worker(threads=6):
        jobs = task.map(range(12))
        assert [job.result(60) for job in jobs] == list(range(12))
    assert most == 2


def test_explain_names_a_queue_that_is_at_its_limit(queue: Queue) -> None:
    queue.set_queue_limits(concurrency=1)
    begun, ends = threading.Event(), threading.Event()

    @queue.task(name="t")
    def task() -> None:
        begun.set()
        ends.wait(30)

    with queue.embedded_worker(threads=2):
        first, second = task.delay(), task.delay()
        assert begun.wait(30)
        [waiting] = [job for job in (first, second) if job.refresh().status == "pending"]
        blockers = queue.explain(waiting.id).blockers
        ends.set()
        second.result(30)

    assert [one.kind for one in blockers] == [BlockerKind.QUEUE_FULL]
    assert "1 jobs of queue default run, and no more may" in blockers[0].text
