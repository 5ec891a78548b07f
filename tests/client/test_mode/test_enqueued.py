"""``run=False``: what was enqueued is only recorded, can be asked for, and runs when the test says so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from taskito import ConfigError, EnqueuedJob, MaxRetriesExceededError, PickleSerializer, Queue

MOMENT = datetime(2040, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)


def send(to: str, *, urgent: bool = False) -> str:
    return to


def test_nothing_runs_until_it_is_drained(queue: Queue) -> None:
    ran: list[int] = []

    @queue.task(max_retries=1)
    def task(x: int) -> None:
        ran.append(x)
        if x == 0:
            raise ValueError

    with queue.test_mode(run=False):
        jobs = task.map([1, 0])
        assert (ran, [job.status for job in jobs]) == ([], ["pending"] * 2)
        with pytest.raises(TimeoutError, match=r"pending, and nothing runs it in test_mode\(run=False\)"):
            jobs[0].result()

        assert queue.drain() == 3, "attempts"
        assert ran == [1, 0, 0]
        assert jobs[0].result() is None
        with pytest.raises(MaxRetriesExceededError):
            jobs[1].result()
        assert queue.drain() == 0


def test_draining_runs_also_what_that_enqueues_and_waits_for(queue: Queue) -> None:
    leaf = queue.task(name="leaf")(lambda x: x)
    waits = queue.task(name="waits")(lambda x: leaf.delay(x).result(60))
    follows = queue.task(name="follows")(lambda x: leaf.delay(x).id)

    with queue.test_mode(run=False):
        first, second = waits.delay(1), follows.delay(2)
        assert asyncio.run(queue.adrain()) == 4
        assert first.result() == 1
        follow_up = queue.get_job(second.result())
        assert follow_up is not None
        assert follow_up.result() == 2


def test_all_that_was_enqueued_is_listed_with_arguments_and_options(queue: Queue) -> None:
    task = queue.task(name="send", queue="mail", priority=4)(send)
    pickled = queue.task(name="pickled", serializer=PickleSerializer(key="k"))(send)

    with queue.test_mode(run=False):
        one = task.delay("a", urgent=True)
        two = pickled.using(delay=60, tags=["x"], metadata={"a": [1]}, max_retries=0, timeout=None).delay("b")
        three = queue.enqueue("elsewhere", ({1, 2},), eta=MOMENT, id="mine")
        queue.enqueue("elsewhere", id="mine")  # Stored already: nothing is enqueued.

        assert queue.all_enqueued() == [
            EnqueuedJob(one.id, "send", ("a",), {"urgent": True}, {"queue": "mail", "priority": 4}),
            EnqueuedJob(
                two.id,
                "pickled",
                ("b",),
                {},
                {
                    "queue": "default",
                    "delay": 60.0,
                    "tags": ("x",),
                    "metadata": {"a": [1]},
                    "max_retries": 0,
                    "timeout": 0.0,
                },
            ),
            EnqueuedJob(three.id, "elsewhere", ({1, 2},), {}, {"queue": "default", "eta": MOMENT}),
        ]


def test_what_runs_at_once_is_listed_too_with_what_it_enqueued(queue: Queue) -> None:
    leaf = queue.task(name="leaf")(lambda: None)
    root = queue.task(name="root")(lambda: leaf.delay().id)

    with queue.test_mode():
        root.delay()
        assert [job.task_name for job in queue.all_enqueued()] == ["root", "leaf"]


AGREES: list[dict[str, Any]] = [
    {},
    {"task": "send"},
    {"task": "send", "args": ("a",)},
    {"args": ["a"], "kwargs": {"urgent": True}},
    {"kwargs": {"urgent": True}},
    {"queue": "mail", "priority": 4},
    {"tags": ["x", "y"], "metadata": {"b": 2, "a": 1}, "eta": MOMENT},
    {"timeout": None, "max_retries": 0, "result_ttl": 60},
]
DISAGREES: list[dict[str, Any]] = [
    {"task": "sent"},
    {"args": ()},
    {"args": ("b",)},
    {"args": ("a", True)},
    {"kwargs": {}},
    {"kwargs": {"urgent": False}},
    {"queue": "default"},
    {"tags": ["x"]},
    {"metadata": {"a": 1}},
    {"eta": datetime(2041, 1, 1, tzinfo=UTC)},
    {"delay": 5},
    {"task": "send", "args": ("a",), "priority": 5},
]


@pytest.mark.parametrize("said", AGREES, ids=repr)
def test_a_job_that_agrees_with_all_that_is_said_is_found(queue: Queue, said: dict[str, Any]) -> None:
    task = queue.task(name="send", queue="mail", priority=4)(send)

    with queue.test_mode(run=False):
        task.using(
            eta=MOMENT, tags=["x", "y"], metadata={"a": 1, "b": 2}, timeout=0, max_retries=0, result_ttl=60
        ).delay("a", urgent=True)
        queue.assert_enqueued(**said)
        with pytest.raises(AssertionError, match="was enqueued; there was:"):
            queue.refute_enqueued(**said)


@pytest.mark.parametrize("said", DISAGREES, ids=repr)
def test_one_that_disagrees_in_anything_is_not(queue: Queue, said: dict[str, Any]) -> None:
    task = queue.task(name="send", queue="mail", priority=4)(send)

    with queue.test_mode(run=False):
        task.using(eta=MOMENT, tags=["x", "y"], metadata={"a": 1, "b": 2}).delay("a", urgent=True)
        queue.refute_enqueued(**said)
        with pytest.raises(AssertionError, match="was not enqueued; there was:"):
            queue.assert_enqueued(**said)


def test_the_message_shows_what_was_enqueued(queue: Queue) -> None:
    task = queue.task(name="send", queue="mail")(send)

    with queue.test_mode(run=False):
        with pytest.raises(AssertionError) as nothing:
            queue.assert_enqueued(task)
        task.using(priority=2).delay("a", urgent=True)
        queue.enqueue("other")
        with pytest.raises(AssertionError) as other:
            queue.assert_enqueued(task, ("b",), {}, priority=2)
        with pytest.raises(AssertionError) as found:
            queue.refute_enqueued(task.using(delay=1))
        task.map([str(number) for number in range(30)])
        with pytest.raises(AssertionError) as many:
            queue.refute_enqueued(task)

    assert str(nothing.value) == "a job of task 'send' was not enqueued; nothing was"
    assert str(other.value).splitlines() == [
        "a job of task 'send' with args ('b',) and kwargs {} and priority=2 was not enqueued; there was:",
        "  send('a', urgent=True) with queue='mail', priority=2",
        "  other() with queue='default'",
    ]
    assert str(found.value).splitlines() == [
        "a job of task 'send' was enqueued; there was:",
        "  send('a', urgent=True) with queue='mail', priority=2",
    ]
    assert str(many.value).splitlines()[-2:] == ["  send('18') with queue='mail'", "  and 11 more"]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"args": "a"}, ConfigError),
        ({"kwargs": [1]}, ConfigError),
        ({"priority": "high"}, ConfigError),
        ({"prioritty": 1}, TypeError),
        ({"task": 7}, ConfigError),
    ],
)
def test_assertions_that_could_never_hold_are_refused(
    queue: Queue, said: dict[str, Any], error: type[Exception]
) -> None:
    with queue.test_mode():
        for assertion in (queue.assert_enqueued, queue.refute_enqueued):
            with pytest.raises(error):
                assertion(**said)
