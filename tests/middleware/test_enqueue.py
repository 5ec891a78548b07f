"""What ``on_enqueue`` may do to jobs that are about to be made, by whichever door they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskito import ConfigError, JobResult, Queue, TaskMiddleware

from .conftest import Calls, Journal


class Tags(TaskMiddleware):
    """Tags every job with its task, and keeps the options as the call said them."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def on_enqueue(self, options: MutableMapping[str, Any]) -> None:
        self.heard.append(dict(options))
        options["tags"] = [options["task_name"], *options.get("tags", ())]


def send(x: int) -> int:
    return x


WAYS: dict[str, Callable[[Queue, Any], Any]] = {
    "delay": lambda queue, task: [task.delay(1)],
    "apply_async": lambda queue, task: [task.apply_async((1,), tags=["said"])],
    "using": lambda queue, task: [task.using(tags=["said"]).delay(1)],
    "map": lambda queue, task: task.map([1, 2]),
    "using map": lambda queue, task: task.using(tags=["said"]).map([1, 2]),
    "enqueue": lambda queue, task: [queue.enqueue("send", (1,))],
    "enqueue with options": lambda queue, task: [queue.enqueue("send", (1,), tags=["said"])],
    "enqueue of a task unknown here": lambda queue, task: [queue.enqueue("elsewhere", (1,), tags=["said"])],
    "enqueue_many": lambda queue, task: queue.enqueue_many(
        [task.spec(1), {"task_name": "send", "args": (2,), "tags": ["said"]}]
    ),
    "adelay": lambda queue, task: [asyncio.run(task.adelay(1))],
    "amap": lambda queue, task: asyncio.run(task.amap([1, 2])),
    "aenqueue_many": lambda queue, task: asyncio.run(queue.aenqueue_many([task.spec(1)])),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_door_asks_on_enqueue_for_each_job_and_takes_what_it_says(tmp_path: Path, way: str) -> None:
    tags = Tags()
    with Queue(tmp_path / "jobs.db", middleware=[tags]) as queue:
        task = queue.task(name="send")(send)
        jobs: list[JobResult[Any]] = WAYS[way](queue, task)
        stored = [job.to_dict() for job in jobs]

    assert len(tags.heard) == len(jobs)
    for heard, job in zip(tags.heard, stored, strict=True):
        assert set(heard) <= {"task_name", "tags"}, "only what was said"
        assert job["tags"] == [job["task_name"], *heard.get("tags", ())]


def test_options_change_every_field_they_may(tmp_path: Path) -> None:
    moment = datetime(2040, 1, 1, tzinfo=UTC)

    class Reroutes(TaskMiddleware):
        def on_enqueue(self, options: MutableMapping[str, Any]) -> None:
            del options["delay"]
            options.update(queue="slow", priority=9, eta=moment, max_retries=7, metadata={"by": "hook"})

    with Queue(tmp_path / "jobs.db") as queue:
        task = queue.task(name="send", queue="mail", middleware=[Reroutes()])(send)
        job = task.using(delay=5).delay(1).to_dict()

    assert (job["queue"], job["priority"], job["max_retries"]) == ("slow", 9, 7)
    assert datetime.fromisoformat(job["scheduled_at"]) == moment
    assert job["metadata"] == {"by": "hook"}


def test_the_queue_s_middleware_is_asked_before_the_task_s_and_a_tasks_own_not_for_others(
    queue: Queue, calls: Calls
) -> None:
    own = queue.task(name="own", middleware=[Journal("own", calls)])(send)
    other = queue.task(name="other")(send)

    own.delay(1)
    other.delay(1)

    assert calls == ["enqueue one", "enqueue two", "enqueue own", "enqueue one", "enqueue two"]


def test_raising_refuses_the_job_and_all_that_come_with_it(tmp_path: Path) -> None:
    class OnlySmall(TaskMiddleware):
        def on_enqueue(self, options: MutableMapping[str, Any]) -> None:
            if options.get("priority", 0) > 5:
                raise PermissionError("too important")

    with Queue(tmp_path / "jobs.db", middleware=[OnlySmall()]) as queue:
        task = queue.task(name="send")(send)
        with pytest.raises(PermissionError, match="too important"):
            task.using(priority=6).delay(1)
        with pytest.raises(PermissionError, match="too important"):
            queue.enqueue_many([task.spec(1), task.using(priority=6).spec(2)])
        assert queue.stats()["pending"] == 0
        task.delay(1)
        assert queue.stats()["pending"] == 1


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"priority": "high"}, ConfigError, "priority must be a whole number"),
        ({"prioritty": 1}, TypeError, "did you mean 'priority'"),
        ({"task_name": "other"}, ConfigError, "must leave task_name as it is, got 'other' for 'send'"),
    ],
)
def test_options_that_make_no_sense_are_refused_as_if_the_call_had_said_them(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], problem: str
) -> None:
    class Changes(TaskMiddleware):
        def on_enqueue(self, options: MutableMapping[str, Any]) -> None:
            options.update(change)

    with Queue(tmp_path / "jobs.db", middleware=[Changes()]) as queue:
        task = queue.task(name="send")(send)
        with pytest.raises(error, match=problem):
            task.delay(1)
        assert queue.stats()["pending"] == 0
