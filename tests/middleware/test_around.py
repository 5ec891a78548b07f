"""Code around attempts: who is called in which order, and what raising in it does."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from taskito import (
    ConfigError,
    JobContext,
    MaxRetriesExceededError,
    Queue,
    TaskFailedError,
    TaskMiddleware,
    current_job,
)
from taskito_core import Returned, hookimpl
from taskito_core.plugin_manager import Plugins

from .conftest import LONG, Calls, Journal


def test_middleware_is_entered_in_its_order_and_left_in_reverse(queue: Queue, calls: Calls) -> None:
    @queue.task(middleware=[Journal("own", calls)])
    def double(x: int) -> int:
        calls.append("task")
        return 2 * x

    with queue.embedded_worker(threads=1):
        assert double.delay(21).result(LONG) == 42

    assert [call for call in calls if not call.startswith("enqueue")] == [
        "before one",
        "before two",
        "before own",
        "task",
        "after own: 42",
        "after two: 42",
        "after one: 42",
    ]


def test_functions_of_the_queue_are_outside_of_its_middleware_and_plugins_outside_of_all(
    queue: Queue, calls: Calls
) -> None:
    queue.plugins = Plugins()
    queue.plugins.register(Onlooker(calls), "onlooker")
    queue.after_task(lambda ctx, result, error: calls.append("after_task first"))
    queue.after_task(lambda ctx, result, error: calls.append("after_task second"))
    queue.before_task(lambda ctx: calls.append("before_task first"))
    queue.before_task(lambda ctx: calls.append("before_task second"))
    queue.on_success(lambda ctx, result: calls.append(f"success {result}"))
    task = queue.task(name="t")(lambda: "done")

    run_here(queue, task)

    assert [call for call in calls if not call.startswith("enqueue")] == [
        "plugin enters",
        "before_task first",
        "before_task second",
        "before one",
        "before two",
        "after two: 'done'",
        "after one: 'done'",
        "after_task second",
        "after_task first",
        "plugin leaves",
        "success done",
    ]


class Onlooker:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @hookimpl(wrapper=True)
    def taskito_run_job(
        self, context: JobContext, call: Callable[[], object]
    ) -> Generator[None, Returned, Returned]:
        self._calls.append("plugin enters")
        returned = yield
        self._calls.append("plugin leaves")
        return returned


def run_here(queue: Queue, task: Any) -> Any:
    """The result of one job of ``task``."""
    with queue.test_mode():
        return task.delay().result(LONG)


def test_an_error_of_the_task_reaches_every_after_and_is_recorded_as_it_was(
    queue: Queue, calls: Calls
) -> None:
    seen: list[BaseException | None] = []
    queue.after_task(lambda ctx, result, error: seen.append(error))

    @queue.task
    def fail() -> None:
        raise LookupError("as asked")

    with queue.embedded_worker(threads=1):
        job = fail.delay()
        with pytest.raises(MaxRetriesExceededError, match="LookupError: as asked"):
            job.result(LONG)

    assert calls[-2:] == ["after two: LookupError", "after one: LookupError"]
    assert [str(error) for error in seen] == ["as asked"]
    [error] = job.errors
    assert error.traceback is not None
    assert error.traceback.splitlines()[1].count("test_around.py"), "no frames of the middleware's machinery"


@pytest.mark.parametrize("exception", [ValueError("no"), SystemExit(3)], ids=lambda one: type(one).__name__)
def test_raising_before_fails_the_attempt_and_only_who_was_entered_is_left(
    queue: Queue, calls: Calls, exception: BaseException
) -> None:
    class Refuses(TaskMiddleware):
        def before(self, ctx: JobContext) -> None:
            raise exception

        def after(self, ctx: JobContext, result: Any, error: BaseException | None) -> None:
            calls.append("never")

    queue.after_task(lambda ctx, result, error: calls.append(f"after_task: {type(error).__name__}"))
    name = type(exception).__name__
    task = queue.task(name="t", middleware=[Refuses(), Journal("inner", calls)])(calls.append)

    with queue.embedded_worker(threads=1), pytest.raises(TaskFailedError, match=name):
        task.delay("never").result(LONG)

    assert [call for call in calls if not call.startswith("enqueue")] == [
        "before one",
        "before two",
        f"after two: {name}",
        f"after one: {name}",
        f"after_task: {name}",
    ]


def test_what_before_raises_is_retried_as_if_the_task_had_raised_it(queue: Queue) -> None:
    refused: list[int] = []

    @queue.before_task
    def refuse(ctx: JobContext) -> None:
        refused.append(ctx.retry_count)
        if ctx.retry_count == 0:
            raise OSError("not now")
        raise ValueError("never")

    task = queue.task(name="t", retry_on=OSError, max_retries=5, retry_delays=[0.0])(lambda: None)

    with queue.embedded_worker(threads=1), pytest.raises(TaskFailedError, match="ValueError: never"):
        task.delay().result(LONG)

    assert refused == [0, 1]


@pytest.mark.parametrize("exception", [ValueError("oops"), SystemExit(3)], ids=lambda one: type(one).__name__)
def test_raising_afterwards_is_logged_with_the_hook_s_name_and_changes_nothing(
    queue: Queue, calls: Calls, caplog: pytest.LogCaptureFixture, exception: BaseException
) -> None:
    @queue.after_task
    def clumsy_after(ctx: JobContext, result: Any, error: BaseException | None) -> None:
        raise exception

    @queue.on_success
    def clumsy_success(ctx: JobContext, result: Any) -> None:
        raise exception

    class Clumsy(TaskMiddleware):
        def after(self, ctx: JobContext, result: Any, error: BaseException | None) -> None:
            raise exception

    task = queue.task(name="t", middleware=[Clumsy()])(lambda: "kept")

    with caplog.at_level(logging.ERROR, "taskito"), queue.embedded_worker(threads=1):
        assert task.delay().result(LONG) == "kept"

    assert calls[-2:] == ["after two: 'kept'", "after one: 'kept'"], "the others are called all the same"
    assert [record.message.rpartition(".")[2] for record in caplog.records] == [
        "after failed",
        "clumsy_after failed",
        "clumsy_success failed",
    ]


def test_success_is_told_only_of_results_that_can_be_stored(queue: Queue) -> None:
    told: list[object] = []
    queue.on_success(lambda ctx, result: told.append(result))
    task = queue.task(name="t")(lambda fits: "fits" if fits else threading.Lock())

    with queue.embedded_worker(threads=1):
        with pytest.raises(TaskFailedError, match="cannot serialise result"):
            task.delay(False).result(LONG)
        task.delay(True).result(LONG)

    assert told == ["fits"]


def test_hooks_of_an_attempt_share_a_state_and_see_the_job(queue: Queue) -> None:
    seen: list[object] = []

    @queue.before_task
    def begin(ctx: JobContext) -> None:
        assert ctx.state == {}
        ctx.state["begun"] = ctx.id

    @queue.after_task
    def end(ctx: JobContext, result: Any, error: BaseException | None) -> None:
        seen.append((ctx.state["begun"], current_job.id, ctx.metadata))

    @queue.on_success
    def succeed(ctx: JobContext, result: Any) -> None:
        seen.append((ctx.state["begun"], current_job.id, ctx.queue_name))

    task = queue.task(name="t")(lambda: current_job.id)

    with queue.embedded_worker(threads=2):
        jobs = [task.using(metadata={"n": n}).delay() for n in range(3)]
        ids = [job.result(LONG) for job in jobs]

    assert sorted(str(one) for one in seen) == sorted(
        str(one)
        for n, job_id in enumerate(ids)
        for one in ((job_id, job_id, {"n": n}), (job_id, job_id, "default"))
    )


def test_hooks_of_an_async_task_run_in_its_thread_outside_of_the_event_loop(queue: Queue) -> None:
    threads: list[int] = []

    def here(*arguments: object) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        threads.append(threading.get_ident())

    queue.before_task(here)
    queue.after_task(here)
    queue.on_success(here)

    @queue.task
    async def where() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    with queue.embedded_worker(threads=1):
        inside = where.delay().result(LONG)

    assert threads == [inside] * 3


async def a_coroutine(ctx: JobContext) -> None: ...


class NoHook(TaskMiddleware):
    def before(self) -> None:  # type: ignore[override]
        """Takes no context."""


@pytest.mark.parametrize(
    "wrong",
    [TaskMiddleware, Journal, "auth", [TaskMiddleware], [print], TaskMiddleware(), [NoHook()]],
    ids=["class", "subclass", "text", "list of classes", "function", "no list", "wrong signature"],
)
def test_what_is_no_middleware_is_refused_for_queues_and_tasks(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"middleware must|before is called with \(ctx\)"):
        Queue(tmp_path / "x.db", middleware=wrong)
    with pytest.raises(ConfigError, match=r"middleware must|before is called with \(ctx\)"):
        Queue(tmp_path / "x.db").task(middleware=wrong)(lambda: None)


@pytest.mark.parametrize(
    ("hook", "function", "problem"),
    [
        ("before_task", a_coroutine, "must be a plain function"),
        ("after_task", lambda ctx: None, r"called with \(ctx, result, error\)"),
        ("on_success", lambda: None, r"called with \(ctx, result\)"),
        ("on_failure", lambda ctx, error, more: None, r"called with \(ctx, error\)"),
        ("on_retry", lambda ctx, error: None, r"called with \(ctx, error, retry_count\)"),
        ("on_dead", "mail", "must be a function"),
    ],
)
def test_what_could_not_be_called_is_refused_when_it_is_registered(
    tmp_path: Path, hook: str, function: Any, problem: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{hook} .*{problem}"):
        getattr(Queue(tmp_path / "x.db"), hook)(function)


def test_a_decorated_function_stays_what_it_is(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "x.db")

    def hook(*arguments: object) -> str:
        return "mine"

    for name in ("before_task", "after_task", "on_success", "on_failure", "on_retry", "on_dead"):
        assert getattr(queue, name)(hook) is hook
    assert hook() == "mine"


def test_the_exception_of_a_failed_attempt_is_gone_when_the_attempt_is_recorded(queue: Queue) -> None:
    class Heavy(Exception):
        """Its traceback keeps alive what the task's frames held."""

    @queue.task
    def fail() -> None:
        raise Heavy

    gc.disable()
    try:
        with queue.test_mode():
            fail.delay()
        left = [one for one in gc.get_objects() if type(one) is Heavy]
    finally:
        gc.enable()

    assert left == []
