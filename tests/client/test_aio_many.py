"""Thousands of coroutines that wait for results: one thread waits for all of them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from taskito import JobNotFoundError, JobResult, MaxRetriesExceededError, Queue, TaskCancelledError
from taskito.client.aio import EndListener

Work = Callable[..., Any]
WAITS = 3000
#: Seconds for which a loop with so many waits may stand at a time, on a machine that has other things to do.
STANDS = 2.0


def all_done(work: Work) -> None:
    while work(limit=500):
        pass


async def watch(stood: list[float]) -> None:
    """Note for how long the event loop did not come around."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.01)
        stood.append(time.monotonic() - before)


def test_three_thousand_waits_take_no_thread_each_and_the_loop_goes_on(queue: Queue, work: Work) -> None:
    task = queue.task(name="t")(lambda x: x)
    threads, stood = [], [0.0]

    async def main() -> None:
        jobs = await task.amap(range(WAITS))
        before = threading.active_count()
        watching = asyncio.create_task(watch(stood))
        waits = [asyncio.create_task(job.aresult(120)) for job in jobs]
        await asyncio.sleep(0.5)
        threads.append(threading.active_count() - before)
        assert (await queue.astats())["pending"] == WAITS
        await asyncio.to_thread(all_done, work)
        assert await asyncio.gather(*waits) == list(range(WAITS))
        threads.append(threading.active_count() - before)
        watching.cancel()

    asyncio.run(main())

    assert max(threads) < 20, "those of the event loop's executor, and one or two"
    assert max(stood) < STANDS


def test_who_comes_later_is_heard_at_once(queue: Queue, work: Work) -> None:
    """While a wait for a job that never ends goes on, others that come one by one are as quick as ever."""
    task = queue.task(name="t")(lambda x: x)
    waits = []

    async def main() -> None:
        endless = asyncio.create_task(task.using(delay=3600).delay(0).aresult(None))
        await asyncio.sleep(0.2)
        for number in range(8):
            job = await task.adelay(number)
            waiting = asyncio.create_task(job.aresult(60))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(all_done, work)
            began = time.monotonic()
            assert await waiting == number
            waits.append(time.monotonic() - began)
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless

    asyncio.run(main())

    assert sorted(waits)[len(waits) // 2] < 0.25, "no polling interval shows"


def test_each_wait_ends_as_its_own_job_does(queue: Queue, work: Work) -> None:
    ok = queue.task(name="ok")(lambda: "ok")
    bad = queue.task(name="bad", max_retries=0)(lambda: dict[str, int]()["x"])

    async def main() -> list[Any]:
        jobs = [
            ok.delay(),
            bad.delay(),
            ok.using(delay=3600).delay(),
            ok.using(delay=3600).delay(),
            ok.delay(),
        ]
        waits = [asyncio.create_task(job.aresult(2 if at == 3 else 60)) for at, job in enumerate(jobs)]
        twice = asyncio.create_task(jobs[0].aresult(60))
        await asyncio.sleep(0.1)
        jobs[2].cancel()
        await asyncio.to_thread(all_done, work)
        return await asyncio.gather(*waits, twice, jobs[3].aresult(0), return_exceptions=True)

    found = asyncio.run(main())

    kinds = [one if isinstance(one, str) else type(one) for one in found]
    assert kinds == [
        *("ok", MaxRetriesExceededError, TaskCancelledError, TimeoutError, "ok", "ok", TimeoutError)
    ]
    assert "is still pending after 2 seconds" in str(found[3])


def test_a_job_that_is_not_stored_ends_the_wait_at_once(queue: Queue) -> None:
    with pytest.raises(JobNotFoundError):
        asyncio.run(JobResult[Any](queue, "nobody").aresult(None))


def test_a_wait_in_a_process_that_was_forked_has_a_listener_of_its_own(queue: Queue, work: Work) -> None:
    task = queue.task(name="t")(lambda x: x)
    first, second = task.delay(1), task.delay(2)
    work()
    assert asyncio.run(first.aresult(30)) == 1

    if (pid := os.fork()) == 0:
        try:
            os._exit(0 if asyncio.run(second.aresult(30)) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_results_of_many_groups_take_no_thread_each(queue: Queue, work: Work) -> None:
    task = queue.task(name="t")(lambda x: x)

    async def main() -> None:
        from taskito import group

        handles = [group(task.s(3 * at + member) for member in range(3)).apply() for at in range(100)]
        before = threading.active_count()
        waits = [asyncio.create_task(handle.aresults(60)) for handle in handles]
        await asyncio.sleep(0.3)
        assert threading.active_count() - before < 20
        await asyncio.to_thread(all_done, work)
        assert await asyncio.gather(*waits) == [[3 * at, 3 * at + 1, 3 * at + 2] for at in range(100)]

    asyncio.run(main())


def test_the_listener_goes_when_nobody_waits(
    queue: Queue, work: Work, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(EndListener, "LINGER", 0.05)
    job = queue.enqueue("nobody's")
    with pytest.raises(TimeoutError):
        asyncio.run(job.aresult(0.1))

    wait_until(lambda: "taskito-aio-results" not in {thread.name for thread in threading.enumerate()})


def test_the_listener_goes_although_a_loop_was_closed_while_a_coroutine_waited(
    queue: Queue, work: Work, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(EndListener, "LINGER", 0.05)
    monkeypatch.setattr(EndListener, "ROUND", 0.1)
    loop = asyncio.new_event_loop()
    wait = loop.create_task(queue.enqueue("nobody's").aresult(60))
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()

    wait_until(lambda: "taskito-aio-results" not in {thread.name for thread in threading.enumerate()})

    wait.get_coro().close()
    del wait
