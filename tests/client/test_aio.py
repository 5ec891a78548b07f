"""The async twins: the same answers, without holding up the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskito import JobResult, JobStatus, Queue, Task, TaskFailedError
from taskito.client import aio

Work = Callable[..., Any]


def test_everything_that_touches_storage_has_a_twin_with_the_same_arguments() -> None:
    sync_only = {
        *("using", "spec", "is_retryable", "to_dict", "task", "request_shutdown", "serializer_of"),
        "parameters_of",
        *("periodic", "s", "si"),  # only declare and describe
        "embedded_worker",  # beside an event loop: arun_worker, and cancel it
        *("before_task", "after_task", "on_success", "on_failure", "on_retry", "on_dead"),
        *("on_child_start", "on_child_stop"),
        *("test_mode", "all_enqueued", "assert_enqueued", "refute_enqueued"),  # look at memory only
    }
    for cls in (Queue, Task, JobResult):
        names = {n for n, thing in inspect.getmembers(cls, inspect.isfunction) if not n.startswith("_")}
        twins = {n for n in names if n[0] == "a" and n[1:] in names}
        # to_dict reads the store only once, and arefresh() does that ahead of it.
        assert names - twins - sync_only == {n[1:] for n in twins}
        for twin in twins:
            ours, theirs = inspect.signature(getattr(cls, twin)), inspect.signature(getattr(cls, twin[1:]))
            assert ours.parameters == theirs.parameters
            function = getattr(cls, twin)
            assert inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def test_the_life_of_a_job_without_one_blocking_call(queue: Queue, work: Work) -> None:
    task = queue.task(name="t")(lambda x: x * 2)

    async def main() -> None:
        one = await task.adelay(4)
        [two, three] = await task.using(priority=1).amap([5, 6])
        four = await queue.aenqueue("t", (7,))
        [five] = await queue.aenqueue_many([task.spec(8)])
        six = await task.aapply_async((9,), priority=2)
        assert (await queue.astats())["pending"] == 6
        assert len(await queue.alist_jobs(status="pending")) == 6
        found = await queue.aget_job(one.id)
        assert found == one
        await asyncio.to_thread(work)
        assert [await job.aresult() for job in (one, two, three, four, five, six)] == [8, 10, 12, 14, 16, 18]
        assert (await one.arefresh()).status is JobStatus.COMPLETE
        assert await queue.ajob_errors(one.id) == []
        assert list(await queue.adead_letters()) == []
        assert len(await queue.aworkers()) == 1
        assert list(await queue.astats_by_queue()) == ["default"]

    asyncio.run(main())


def test_waiting_for_many_results_holds_up_nobody(queue: Queue, work: Work) -> None:
    """More waits than the event loop has threads, and still other calls get through."""
    task = queue.task(name="t")(lambda x: x)

    async def main() -> None:
        jobs = await task.amap(range(40))
        waits = [asyncio.create_task(job.aresult(60)) for job in jobs]
        await asyncio.sleep(0)
        assert (await asyncio.wait_for(queue.astats(), 30))["pending"] == 40
        await asyncio.to_thread(work)
        assert await asyncio.gather(*waits) == list(range(40))

    asyncio.run(main())


def test_an_error_arrives_as_itself(queue: Queue, work: Work) -> None:
    job = queue.task(lambda: dict[str, int]()["x"]).delay()
    work()

    with pytest.raises(TaskFailedError, match="KeyError"):
        asyncio.run(job.aresult())
    with pytest.raises(TimeoutError):
        asyncio.run(queue.enqueue("t").aresult(timeout=0.01))


def test_an_abandoned_wait_ends_its_thread(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskito.client.results.job_end.CHECK_INTERVAL", 0.05)
    job = queue.enqueue("t")

    async def main() -> None:
        wait = asyncio.create_task(job.aresult(timeout=None))
        await asyncio.sleep(0)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait

    asyncio.run(main())

    for thread in threading.enumerate():
        if thread.name.startswith("taskito-aio-"):
            thread.join(30)
            assert not thread.is_alive()


def test_async_with_closes_the_queue(backend_url: str) -> None:
    async def main() -> None:
        async with Queue(db_url=backend_url) as queue:
            await queue.aenqueue("t")
            opened = queue.storage
        assert queue.storage is not opened
        queue.close()

    asyncio.run(main())


def test_a_thread_of_its_own_sees_the_context_and_outlives_a_closed_loop() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    go = threading.Event()

    async def main() -> None:
        variable.set(5)
        assert await aio.in_own_thread(variable.get) == 5
        waiting = asyncio.create_task(aio.in_own_thread(go.wait, 30))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(main())
    go.set()


def test_a_twin_says_what_its_method_does_and_follows_one_that_is_overridden(tmp_path: Path) -> None:
    class Mine(Queue):
        def paused_queues(self) -> list[str]:
            return ["mine"]

    assert Queue.aenqueue.__name__ == "aenqueue"
    assert Queue.aenqueue.__qualname__ == "Enqueue.aenqueue"
    assert "Store one job of a task" in (Queue.aenqueue.__doc__ or "")
    assert asyncio.run(Mine(tmp_path / "x.db").apaused_queues()) == ["mine"]
