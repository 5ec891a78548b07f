"""Jobs in test mode run where they are enqueued, and otherwise as a worker's jobs do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from taskito import (
    ErrorKind,
    JobResult,
    MaxRetriesExceededError,
    PayloadTooLarge,
    Queue,
    SerializationError,
    TaskFailedError,
    TaskTimeoutError,
    WorkerShutdown,
    current_job,
)
from taskito.client.test_mode.inline_worker import LONGEST_CHAIN
from taskito_core import hookimpl
from taskito_core.job import DeadReason, NewJob, Outcome
from taskito_core.plugin_manager import Plugins

from .conftest import LONG

WAYS: dict[str, Callable[[Queue, Any], Any]] = {
    "delay": lambda queue, task: [task.delay(1), task.delay(2)],
    "apply_async": lambda queue, task: [task.apply_async((1,)), task.apply_async(kwargs={"x": 2})],
    "using": lambda queue, task: [task.using(queue="a").delay(1), task.using(priority=3).delay(x=2)],
    "map": lambda queue, task: task.map([1, 2]),
    "enqueue": lambda queue, task: [queue.enqueue("double", (1,)), queue.enqueue("double", kwargs={"x": 2})],
    "enqueue_many": lambda queue, task: queue.enqueue_many(
        [task.spec(1), {"task_name": "double", "args": (2,)}]
    ),
    "later": lambda queue, task: [
        task.using(delay=86_400).delay(1),
        task.using(eta=datetime(2090, 1, 1, tzinfo=UTC)).delay(2),
    ],
    "adelay": lambda queue, task: asyncio.run(gather(task.adelay(1), task.adelay(2))),
    "aapply_async": lambda queue, task: asyncio.run(gather(task.aapply_async((1,)), task.aapply_async((2,)))),
    "amap": lambda queue, task: asyncio.run(task.amap([1, 2])),
    "aenqueue": lambda queue, task: asyncio.run(
        gather(queue.aenqueue("double", (1,)), queue.aenqueue("double", (2,)))
    ),
    "aenqueue_many": lambda queue, task: asyncio.run(queue.aenqueue_many([task.spec(1), task.spec(2)])),
}


async def gather(*calls: Any) -> list[Any]:
    return [await call for call in calls]


@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("way", WAYS)
def test_by_every_door_a_job_has_run_when_its_handle_is_there(queue: Queue, way: str, kind: str) -> None:
    double = queue.task(name="double")(async_double if kind == "coroutine" else plain_double)

    with queue.test_mode():
        jobs: list[JobResult[int]] = WAYS[way](queue, double)
        assert [job.status for job in jobs] == ["complete"] * 2
        assert [job.result() for job in jobs] == [2, 4]
        assert queue.stats()["complete"] == 2


def plain_double(x: int) -> int:
    return 2 * x


async def async_double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@dataclass
class Point:
    x: int
    y: tuple[int, ...]


def test_arguments_and_results_pass_through_the_serializer(queue: Queue) -> None:
    seen: list[Any] = []

    @queue.task
    def keep(point: Point, names: list[str]) -> Point:
        seen.append((point, names))
        names.append("from the task")
        return point

    point, names = Point(1, (2, 3)), ["mine"]
    with queue.test_mode():
        result = keep.delay(point, names).result()

        assert seen == [(point, ["mine", "from the task"])]
        assert names == ["mine"], "the task has its own copy"
        assert result == point
        assert result is not point
        with pytest.raises(SerializationError, match=r"args\[0\]"):
            keep.delay(object(), [])  # type: ignore[arg-type]


def test_what_cannot_be_stored_fails_as_in_production(queue: Queue) -> None:
    small = Queue(db_url="postgresql://127.0.0.1:1/nowhere", max_payload=20)
    task = small.task(name="t")(lambda x: x * 20)
    result = queue.task(name="t")(lambda: threading.Lock)

    with queue.test_mode(), pytest.raises(TaskFailedError, match="cannot serialise result"):
        result.delay().result()
    with small.test_mode():
        with pytest.raises(PayloadTooLarge):
            task.delay("x" * 20)
        with pytest.raises(TaskFailedError, match="max_payload is 20"):
            task.delay("x").result()


def test_retries_follow_the_policy_at_once(queue: Queue) -> None:
    attempts: list[int] = []

    @queue.task(max_retries=3, retry_backoff=1000)
    def flaky(failures: int) -> str:
        attempts.append(current_job.retry_count)
        if current_job.retry_count < failures:
            raise ConnectionError("not yet")
        return "at last"

    started = time.monotonic()
    with queue.test_mode():
        assert flaky.delay(2).result() == "at last"
        with pytest.raises(MaxRetriesExceededError, match="after 4 attempts: ConnectionError: not yet"):
            flaky.delay(9).result()
        with pytest.raises(MaxRetriesExceededError, match="failed after 2 attempts"):
            flaky.using(max_retries=1).delay(9).result()

        assert attempts == [0, 1, 2, 0, 1, 2, 3, 0, 1]
        assert [letter.reason for letter in queue.dead_letters()] == [DeadReason.RETRIES] * 2
    assert time.monotonic() - started < 900, "nobody waits for a retry"


def test_an_error_ends_a_job_as_it_does_in_production(queue: Queue) -> None:
    @queue.task(max_retries=5, dont_retry_on=ValueError)
    def fail() -> None:
        raise ValueError("as asked")

    with queue.test_mode():
        job = fail.delay()
        with pytest.raises(TaskFailedError, match="failed: ValueError: as asked") as caught:
            job.result()

        assert type(caught.value) is TaskFailedError
        assert caught.value.type_name == "ValueError"
        assert caught.value.remote_traceback is not None
        assert caught.value.remote_traceback.splitlines()[1].count("test_inline_worker.py")
        assert (job.status, job.error) == ("dead", "ValueError: as asked")
        assert [(error.attempt, error.kind) for error in job.errors] == [(1, ErrorKind.RAISED)]


def test_a_timeout_fails_the_job_when_it_returns_as_with_threads(queue: Queue) -> None:
    task = queue.task(name="t", timeout=0.01)(lambda: time.sleep(0.1))  # What it takes is what is tested.

    with queue.test_mode(), pytest.raises(TaskTimeoutError, match=r"its timeout is 0.01 s"):
        task.delay().result()


@pytest.mark.parametrize("exception", [SystemExit(1), GeneratorExit(), WorkerShutdown("mine")], ids=repr)
def test_whatever_a_task_raises_ends_the_job_and_not_the_test(queue: Queue, exception: BaseException) -> None:
    @queue.task
    def leave() -> None:
        raise exception

    with queue.test_mode(), pytest.raises(TaskFailedError, match=type(exception).__name__):
        leave.delay().result()


def test_control_c_in_a_task_reaches_the_test(queue: Queue) -> None:
    @queue.task(max_retries=3)
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), queue.test_mode():
        interrupted.delay()


def test_what_a_job_enqueues_runs_after_it_and_before_the_call_returns(queue: Queue) -> None:
    order: list[str] = []

    @queue.task
    def child(name: str) -> None:
        order.append(name)

    @queue.task
    def parent() -> None:
        child.map(["first", "second"])
        child.using(delay=60).delay("later")
        order.append("parent")

    @queue.task
    async def grandparent() -> None:
        await parent.adelay()
        order.append("grandparent")

    with queue.test_mode():
        grandparent.delay()
        assert order == ["grandparent", "parent", "first", "second", "later"]
        assert queue.stats()["complete"] == 5


def test_a_job_may_wait_for_another_which_runs_at_that_moment(queue: Queue) -> None:
    @queue.task
    def add(x: int, y: int) -> int:
        return x + y

    @queue.task
    def total(numbers: list[int]) -> int:
        return sum(job.result(LONG) for job in [add.delay(x, 1) for x in numbers])

    @queue.task
    async def atotal(numbers: list[int]) -> int:
        jobs = [await add.adelay(x, 1) for x in numbers]
        return sum([await job.aresult(LONG) for job in jobs]) + add.delay(0, 0).result(LONG)

    @queue.task
    def in_threads(numbers: list[int]) -> int:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(lambda x: add.delay(x, 1).result(LONG), numbers))

    with queue.test_mode():
        assert total.delay([1, 2, 3]).result() == 9
        assert atotal.delay([1, 2, 3]).result() == 9
        assert in_threads.delay([1, 2, 3]).result() == 9


def test_an_async_test_may_use_the_blocking_calls_and_async_tasks(queue: Queue) -> None:
    @queue.task
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    async def test() -> list[int]:
        return [double.delay(1).result(), await (await double.adelay(2)).aresult()]

    with queue.test_mode():
        assert asyncio.run(test()) == [2, 4]


def test_an_endless_chain_of_jobs_is_an_error_and_not_a_hang(queue: Queue) -> None:
    runs: list[int] = []

    @queue.task
    def again() -> None:
        runs.append(1)
        again.delay()

    with queue.test_mode(), pytest.raises(RuntimeError, match=f"'{again.name}' is job 500 of a chain"):
        again.delay()

    assert len(runs) == LONGEST_CHAIN


def test_priority_decides_the_order_inside_a_batch(queue: Queue) -> None:
    order: list[int] = []
    task = queue.task(name="t")(order.append)

    with queue.test_mode():
        queue.enqueue_many([task.using(priority=number).spec(number) for number in (1, 3, 2)])

    assert order == [3, 2, 1]


def test_current_job_is_the_job_that_runs(queue: Queue) -> None:
    @queue.task
    def who() -> list[Any]:
        return [current_job.id, current_job.queue_name, current_job.metadata]

    with queue.test_mode():
        job = who.using(queue="mail", metadata={"user": 7}).delay()
        assert job.result() == [job.id, "mail", {"user": 7}]
        assert not current_job


def test_hooks_of_queue_and_plugins_are_called(queue: Queue) -> None:
    heard: list[str] = []

    class Onlooker:
        @hookimpl
        def taskito_jobs_enqueued(self, jobs: list[NewJob]) -> None:
            heard.append(f"enqueued {len(jobs)}")

        @hookimpl
        def taskito_jobs_finished(self, outcomes: list[Outcome]) -> None:
            heard.append(f"finished {type(outcomes[0]).__name__}")

    queue.plugins = Plugins()
    queue.plugins.register(Onlooker(), "onlooker")
    queue.before_task(lambda ctx: heard.append("before"))
    queue.after_task(lambda ctx, result, error: heard.append("after"))
    queue.on_success(lambda ctx, result: heard.append("success"))
    queue.on_failure(lambda ctx, error: heard.append("failure"))
    queue.on_retry(lambda ctx, error, retry_count: heard.append(f"retry {retry_count}"))
    queue.on_dead(lambda ctx, error: heard.append("dead"))
    task = queue.task(name="t", max_retries=1)(lambda x: 1 // x)

    with queue.test_mode():
        task.delay(1)
        assert heard == ["before", "after", "success", "finished Complete", "enqueued 1"]
        heard.clear()
        task.delay(0)

    assert heard == [
        *("before", "after", "finished Retry", "failure", "retry 1"),
        *("before", "after", "finished Dead", "failure", "dead"),
        "enqueued 1",
    ]


def test_a_task_that_this_queue_does_not_have_stays_pending_and_says_so(queue: Queue) -> None:
    known = queue.task(name="known")(lambda: "ran")

    with queue.test_mode():
        job = queue.enqueue("elsewhere")
        assert known.delay().result() == "ran"
        assert job.status == "pending"
        with pytest.raises(TimeoutError, match="'elsewhere' is pending, and nothing runs it: this queue"):
            job.result()
