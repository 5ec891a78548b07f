"""Coroutines that a job leaves running in a worker of threads, and in test mode."""

from __future__ import annotations

import asyncio
import logging

import pytest

from taskito import Queue, current_job

LONG = 60.0


async def deaf() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


def test_a_thread_ends_what_a_job_left_and_keeps_what_it_is_told_to(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    held = []

    @queue.task(timeout=1.0)
    async def leaves() -> list[str]:
        before = sorted(task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()})
        held.append(asyncio.create_task(deaf(), name="poller"))
        with current_job.keep_coroutines():
            held.append(asyncio.create_task(asyncio.sleep(3600), name="kept"))
        return before

    with caplog.at_level(logging.WARNING, "taskito.worker"), queue.embedded_worker(threads=1):
        for before in [], ["kept"]:
            job = leaves.delay()
            assert job.result(LONG) == before
            assert job.errors == []

    assert "poller (deaf)" in caplog.text
    assert "kept" not in caplog.text.replace("keep_coroutines", "")


def test_in_test_mode_a_job_does_not_find_what_another_left(queue: Queue) -> None:
    @queue.task
    async def leaves(_: int) -> int:
        before = len(asyncio.all_tasks())
        asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        return before

    with queue.test_mode():
        assert [job.result() for job in leaves.map(range(3))] == [1, 1, 1]


def test_keeping_coroutines_outside_of_a_task_does_nothing() -> None:
    async def main() -> None:
        with current_job.keep_coroutines():
            await asyncio.create_task(asyncio.sleep(0))

    asyncio.run(main())
