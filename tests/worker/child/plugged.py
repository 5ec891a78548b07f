"""An app with a plugin that looks on: at children, and around every job."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from taskito import Queue, TaskMiddleware
from taskito.running_job.job_context import JobContext
from taskito_core import hookimpl
from taskito_core.hookspecs import Returned

queue = Queue(db_path="/nonexistent/never-opened.db")
journal = Path(os.environ["PLUGGED_JOURNAL"])


def note(text: str) -> None:
    with journal.open("a") as file:
        file.write(f"{text}\n")


class Onlooker:
    @hookimpl
    def taskito_child_started(self) -> None:
        if os.environ.get("PLUGGED_FAILS"):
            raise RuntimeError("the licence server is down")
        note("started")

    @hookimpl
    def taskito_child_stopping(self) -> None:
        note("stopping")

    @hookimpl(wrapper=True)
    def taskito_run_job(
        self, context: JobContext, call: Callable[[], object]
    ) -> Generator[None, Returned, Returned]:
        try:
            returned = yield
        except BaseException as exc:
            note(f"{context.task_name} {type(exc).__name__}")
            raise
        note(f"{context.task_name} returned")
        if context.task_name == "secret":
            return Returned("masked")
        return returned


queue.plugins.register(Onlooker(), "onlooker")


@queue.task(name="secret")
def secret() -> str:
    return "secret"


@queue.task(name="fail")
def fail() -> None:
    raise ValueError("as asked")


@queue.task(name="nothing")
async def nothing() -> None:
    await asyncio.sleep(0)


@queue.task(name="slow", soft_timeout=0.1)
def slow() -> None:
    time.sleep(30)


@queue.task(name="async_slow", soft_timeout=0.1)
async def async_slow() -> None:
    await asyncio.sleep(30)


class LooksOnOldStyle:
    """pluggy's older kind of wrapper: it is given a box with the result."""

    @hookimpl(hookwrapper=True)
    def taskito_run_job(self, context: JobContext) -> Generator[None, Any, None]:
        box = yield
        if context.task_name == "async_boxed":
            box.force_result(Returned(box.get_result().value + " in a box"))


queue.plugins.register(LooksOnOldStyle(), "looks on, old style")


class Around(TaskMiddleware):
    def before(self, ctx: JobContext) -> None:
        note(f"{ctx.task_name} before")

    def after(self, ctx: JobContext, result: Any, error: BaseException | None) -> None:
        note(f"{ctx.task_name} after {result!r} {type(error).__name__}")


@queue.task(name="async_boxed", middleware=[Around()])
async def async_boxed() -> str:
    await asyncio.sleep(0)
    return "a value"


@queue.task(name="async_fail", middleware=[Around()])
async def async_fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("as asked")
