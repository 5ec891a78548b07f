"""An app with a plugin that looks on: at children, and around every job."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

from taskito import Queue
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
