"""``debounce`` and ``throttle``: what a task and a call say, and what becomes of such calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import WaitUntil
from taskito import ConfigError, JobOptions, Queue, chain
from taskito_core.job import Job, JobStatus


def stored(queue: Queue, job_id: str) -> Job:
    [job] = queue.storage.get([job_id])
    return job


def test_a_debounced_task_runs_once_after_the_last_call_with_what_that_said(
    queue: Queue, wait_until: WaitUntil
) -> None:
    ran: list[tuple[str, int]] = []

    @queue.task(name="index", debounce=1.0, debounce_key="{document}")
    def index(document: str, version: int) -> None:
        ran.append((document, version))

    with queue.embedded_worker():
        jobs = [index.delay("a", version) for version in range(5)]
        other = index.delay("b", 7)
        wait_until(lambda: len(ran) == 2)
        jobs[0].result()

    assert len({job.id for job in jobs}) == 1
    assert other != jobs[0]
    assert sorted(ran) == [("a", 4), ("b", 7)]


def test_a_throttled_task_gives_the_first_job_of_its_window(queue: Queue) -> None:
    task = queue.task(name="t", throttle=60)(lambda n: n)

    first, second = task.delay(1), task.delay(2)
    elsewhere = task.using(throttle_key="by hand").delay(3)

    assert first == second != elsewhere
    assert stored(queue, first.id).payload != stored(queue, elsewhere.id).payload
    assert queue.stats()["pending"] == 2


def test_a_call_may_say_it_and_its_key_is_the_tasks_own(queue: Queue) -> None:
    one, two = queue.task(name="one")(lambda: None), queue.task(name="two")(lambda: None)

    jobs = [
        one.using(debounce=60, debounce_key="k").delay(),
        two.using(debounce=60, debounce_key="k").delay(),
        queue.enqueue("one", debounce=60, debounce_key="k"),
        queue.enqueue("elsewhere", debounce=60, debounce_key="k"),
        queue.enqueue("elsewhere", debounce=30, debounce_key="k"),
        one.using(debounce=60).delay(),
        one.delay(),
    ]

    assert jobs[0] == jobs[2]
    assert jobs[3] == jobs[4]
    assert len({job.id for job in jobs}) == 5
    found = stored(queue, jobs[4].id)
    assert 29_000 < found.scheduled_at - found.created_at < 60_000


def test_a_call_beats_its_task(queue: Queue) -> None:
    task = queue.task(name="t", debounce=60)(lambda: None)

    assert task.delay() == task.using(debounce=5).delay() == task.delay()
    assert task.using(debounce=None).delay() != task.using(debounce=None, delay=3).delay()
    assert task.using(throttle=5).delay() == task.using(throttle=5).delay() != task.delay()


def test_enqueue_many_spaces_the_calls_of_one_batch(queue: Queue) -> None:
    task = queue.task(name="t", throttle=60, throttle_key="{n}")(lambda n: n)

    jobs = queue.enqueue_many([{"task_name": "t", "args": [n]} for n in (1, 2, 1, 2, 1)])

    assert [job.id for job in jobs] == [jobs[0].id, jobs[1].id, jobs[0].id, jobs[1].id, jobs[0].id]
    assert [job.id for job in task.map([1, 2])] == [jobs[0].id, jobs[1].id]


def test_a_job_that_stands_for_many_calls_is_one_job_to_who_waits_and_to_who_cancels(queue: Queue) -> None:
    task = queue.task(name="t", debounce=60)(lambda n: n)
    first, last = task.delay(1), task.delay(2)

    assert first.cancel()

    assert last.refresh().status is JobStatus.CANCELLED
    assert task.delay(3) != first


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"debounce": 0}, "debounce must be a number of seconds above 0"),
        ({"throttle": -1}, "throttle must be"),
        ({"throttle": "often"}, "throttle must be"),
        ({"debounce": 1, "throttle": 1}, "both debounce and throttle"),
        ({"debounce_key": "k"}, "debounce_key of .* needs debounce"),
        ({"throttle": 1, "throttle_key": ""}, "throttle_key must be text"),
        ({"debounce": 1, "delay": 2}, "both debounce and delay"),
        ({"debounce": 1, "unique_key": "k"}, "both debounce and unique_key"),
        ({"debounce": 1, "depends_on": "a job"}, "both debounce and depends_on"),
        ({"throttle": 1, "unique_key": "k"}, "both throttle and unique_key"),
    ],
)
def test_what_makes_no_sense_is_refused_at_every_door(queue: Queue, options: JobOptions, said: str) -> None:
    task = queue.task(name="t")(lambda: None)

    for enqueue in (
        lambda: task.apply_async(**options),
        lambda: queue.enqueue("t", **options),
        lambda: queue.enqueue("elsewhere", **options),
        lambda: queue.enqueue_many([{"task_name": "elsewhere", **options}]),
    ):
        with pytest.raises(ConfigError, match=said):
            enqueue()
    assert queue.stats()["pending"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"debounce": 1, "debounce_key": "{b}"}, "has a field 'b', its arguments are: a"),
        ({"throttle": 1, "throttle_key": 7}, "throttle_key must be text such as"),
        ({"throttle_key": "{a}"}, "throttle_key of task 't' needs throttle"),
        ({"debounce": 1, "throttle": 1}, "both debounce and throttle"),
    ],
)
def test_what_makes_no_sense_of_a_task_is_refused_when_it_is_declared(
    queue: Queue, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        queue.task(name="t", **options)(lambda a: None)


def test_a_step_of_a_canvas_is_a_job_of_its_own(queue: Queue) -> None:
    task = queue.task(name="t", debounce=60)(lambda *_: json.dumps({}))

    with pytest.raises(ConfigError, match="a step of a canvas cannot have debounce"):
        chain(task.s(), task.s()).apply()

    chain(task.s().set(debounce=None), task.s().set(debounce=None)).apply()
    assert queue.stats()["pending"] == 2
