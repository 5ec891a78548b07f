"""Waiting for all members of a group, and how far they are meanwhile."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Iterator

import pytest

from conftest import WaitUntil
from taskito import GroupResult, JobStatus, Queue, group
from taskito.client.aio import Wait
from taskito.client.results import watched as watched_jobs
from taskito.client.results.progress import EndRate, open_display
from taskito.client.results.watched import EndCount, WatchedJobs, WatchedQueue, follow, ids_of
from taskito_core.storage_client import JobFilter
from tests.client.conftest import Work


@pytest.fixture
def worked(queue: Queue) -> Iterator[Queue]:
    """A queue with a worker for it, and a task that may fail."""

    @queue.task(name="half", max_retries=0)
    def half(number: int) -> float:
        if number % 2:
            raise ValueError("odd")
        return number / 2

    with queue.embedded_worker(threads=1):
        yield queue


def halves(queue: Queue, *numbers: int) -> GroupResult:
    task = queue.tasks["half"]
    return group(task.s(number) for number in numbers).apply()


def test_a_group_is_waited_for_however_its_members_end(
    worked: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    found = halves(worked, 2, 3, 4)

    assert found.wait(30) == {JobStatus.COMPLETE: 2, JobStatus.DEAD: 1}
    assert found.wait(0, progress=True) == {JobStatus.COMPLETE: 2, JobStatus.DEAD: 1}
    assert capsys.readouterr().err == "3 of 3 jobs, 1 failed\n"
    assert asyncio.run(found.await_all(30)) == found.statuses()


def test_a_wait_that_is_over_is_a_timeout_error_and_changes_nothing(queue: Queue) -> None:
    found = group(queue.task(name="t")(lambda: 1).s() for _ in range(2)).apply()

    with pytest.raises(TimeoutError, match=r"2 jobs have not ended after 0\.1 seconds"):
        found.wait(0.1)
    assert found.statuses() == {JobStatus.PENDING: 2}


def test_an_empty_group_has_ended(queue: Queue) -> None:
    assert group([]).apply().wait(0) == {}


def test_members_of_a_group_are_found_by_its_id(queue: Queue) -> None:
    task = queue.task(name="t")(lambda *_: 1)
    nested = (task.s() | group(task.s().set(tags=["mine"]), group(task.s()))).apply()

    tagged = queue.list_jobs(tag=f"group:{nested.id}")

    assert {job.id for job in tagged} == set(nested.ids)
    assert sorted(len(job.to_dict()["tags"]) for job in queue.list_jobs()) == [0, 1, 2]


def test_in_test_mode_waiting_runs_what_is_pending(queue: Queue) -> None:
    task = queue.task(name="t")(lambda: 1)
    with queue.test_mode():
        assert group(task.s()).apply().wait(1) == {JobStatus.COMPLETE: 1}
    with queue.test_mode(run=False), pytest.raises(TimeoutError, match="drain"):
        group(task.s()).apply().wait()


@pytest.mark.parametrize("what", ["jobs", "queue"])
def test_the_end_of_the_last_job_ends_the_wait_at_once(
    queue: Queue, work: Work, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil, what: str
) -> None:
    monkeypatch.setattr(watched_jobs, "TICK", 60.0)
    task = queue.task(name="t")(lambda: 1)
    jobs = [task.delay() for _ in range(3)]
    counts: list[EndCount] = []

    def wait() -> None:
        ids = [job.id for job in jobs]
        storage = queue.storage
        watched = WatchedJobs(storage, ids) if what == "jobs" else WatchedQueue(storage, "default")
        follow(watched, Wait(50), counts.append)

    waiter = threading.Thread(target=wait)
    began = time.monotonic()
    waiter.start()
    wait_until(lambda: counts)
    work()
    waiter.join(40)

    assert time.monotonic() - began < 30
    assert (counts[0], counts[-1]) == (EndCount(3, 0, 0), EndCount(3, 3, 0))


def test_jobs_that_are_not_listened_for_count_too(queue: Queue, work: Work) -> None:
    stuck = [queue.enqueue("t", queue="nobody").id for _ in range(watched_jobs.LISTENED_FOR + 5)]
    task = queue.task(name="t")(lambda: 1)
    others = [task.delay().id for _ in range(5)]
    watched = WatchedJobs(queue.storage, [*stuck, *others])
    assert watched.read() == EndCount(len(stuck) + 5, 0, 0)
    work()

    with pytest.raises(TimeoutError):
        follow(watched, Wait(3), lambda count: None)

    assert watched.read() == EndCount(len(stuck) + 5, 5, 0)


def test_jobs_that_come_meanwhile_are_waited_for(queue: Queue, work: Work) -> None:
    task = queue.task(name="t")(lambda: 1)
    first = task.using(tags=["x"]).delay()
    where = JobFilter(statuses=watched_jobs.LIVE, tag="x")
    watched = WatchedJobs(queue.storage, [first.id], lambda: ids_of(queue.storage, where))
    work()
    second = task.using(tags=["x"]).delay()

    assert watched.read() == EndCount(2, 1, 0)
    second.cancel()
    watched.listen(0)
    assert watched.read() == EndCount(2, 2, 1)


def test_what_is_deleted_while_a_queue_is_watched_has_ended(queue: Queue, work: Work) -> None:
    task = queue.task(name="t")(lambda: 1)
    task.delay()
    watched = WatchedQueue(queue.storage, "default")
    work()
    assert watched.read() == EndCount(1, 1, 0)

    queue.purge_completed(0)
    task.delay()

    assert watched.read() == EndCount(2, 1, 0)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = EndRate()
    rate.add(EndCount(100, 0, 0), 0.0)
    assert str(rate) == "0 of 100 jobs, 0.0/s"
    for second in range(1, 21):
        rate.add(EndCount(100, 3 * second, 2), float(second))
    assert str(rate) == "60 of 100 jobs, 2 failed, 3.0/s, 0:00:13 left"
    rate.add(EndCount(1, 1, 0), 30.0)
    assert str(rate) == "1 of 1 job"


def test_lines_are_a_second_apart_but_for_the_last() -> None:
    stream = io.StringIO()
    with open_display(stream=stream) as display:
        for ended in range(1000):
            display.show(EndCount(1000, ended, 0))
        display.show(EndCount(1000, 1000, 0))

    assert 2 <= len(stream.getvalue().splitlines()) <= 4
    assert stream.getvalue().endswith("1000 of 1000 jobs\n")
