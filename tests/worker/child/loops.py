"""Tasks that leave coroutines in the event loop. Part of the app ``tests.worker.child.jobs``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from taskito import current_job
from tests.worker.child.jobs import queue

task = queue.task

_ticks: dict[str, int] = {}
_held: list[Any] = []


async def deaf() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


async def deaf_and_busy() -> None:
    while True:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass


async def deaf_to_all() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass


async def slow_to_end() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(3600)


async def blocks_at_the_end() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        time.sleep(3600)


async def exits_at_the_end() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        raise SystemExit(3)


async def starts_another() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        _held.append(asyncio.create_task(deaf(), name="another"))


async def cleans_up(path: str) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.2)
        Path(path).touch()


async def tick(name: str) -> None:
    while True:
        _ticks[name] = _ticks.get(name, 0) + 1
        await asyncio.sleep(0.001)


@task(name="leave_coroutine")
async def leave_coroutine(what: str, *args: str) -> str:
    _held.append(asyncio.create_task(globals()[what](*args), name="left"))
    await asyncio.sleep(0)
    return "returned"


@task(name="fail_and_leave_coroutine")
async def fail_and_leave_coroutine(what: str) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("a member of the gathering")

    await asyncio.gather(fail(), globals()[what]())


@task(name="leave_cancelled")
async def leave_cancelled() -> None:
    """What it should have awaited too: it ends in the loop's next turns."""
    left = asyncio.create_task(asyncio.sleep(3600), name="left")
    await asyncio.sleep(0)
    left.cancel()


@task(name="keep_coroutine")
async def keep_coroutine() -> None:
    with current_job.keep_coroutines():
        kept = asyncio.create_task(tick("kept"), name="kept")
        server = asyncio.create_task(spawns(), name="spawns")
    not_kept = asyncio.create_task(tick("not kept"), name="not kept")
    _held.extend([kept, server, not_kept])
    await asyncio.sleep(0.01)


@task(name="keep")
async def keep(what: str) -> None:
    with current_job.keep_coroutines():
        _held.append(asyncio.create_task(globals()[what]()))
    await asyncio.sleep(0)


async def blocks_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 3600)


async def spawns() -> None:
    """One that starts others, later and in other jobs' time."""
    while True:
        await asyncio.sleep(0.001)
        _held.append(asyncio.create_task(tick("kept child"), name="kept child"))
        await asyncio.sleep(3600)


@task(name="ticks")
async def ticks() -> dict[str, int]:
    """How often each has ticked during this job."""
    _ticks.clear()
    await asyncio.sleep(0.1)
    return _ticks


@task(name="loop_of")
async def loop_of() -> int:
    return id(asyncio.get_running_loop())
