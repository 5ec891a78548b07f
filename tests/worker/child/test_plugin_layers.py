"""Wrappers of ``taskito_run_job`` with a slip in them: no job suffers, and the plugin is named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from taskito import Queue, TaskFailedError
from taskito_core import Returned, hookimpl
from taskito_core.plugin_manager import Plugins

LONG = 60.0  #: seconds that are never reached

Wrapping = Generator[None, Returned, Any]


class Heavy(Exception):
    """What the tasks here fail with."""


class ReturnsNothing:
    @hookimpl(wrapper=True)
    def taskito_run_job(self) -> Wrapping:
        yield


class SwallowsAndReturnsNothing:
    @hookimpl(wrapper=True)
    def taskito_run_job(self) -> Wrapping:
        try:
            yield
        except Exception:
            pass


class DoesNotYield:
    @hookimpl(wrapper=True)
    def taskito_run_job(self) -> Wrapping:
        if self is None:
            yield


class YieldsTwice:
    @hookimpl(wrapper=True)
    def taskito_run_job(self) -> Wrapping:
        yield
        yield


class ReturnsTooEarly:
    @hookimpl(wrapper=True)
    def taskito_run_job(self) -> Wrapping:
        if self is not None:
            return Returned("from a cache")
        yield


class ReturnsBareValue:
    @hookimpl(wrapper=True)
    def taskito_run_job(self) -> Wrapping:
        return (yield).value


class OlderKindEmptiesTheBox:
    @hookimpl(hookwrapper=True)
    def taskito_run_job(self) -> Generator[None, Any, None]:
        box = yield
        box.force_result(None)


class Masks:
    @hookimpl(wrapper=True)
    def taskito_run_job(self) -> Wrapping:
        yield
        return Returned("masked")


class Rescues:
    @hookimpl(wrapper=True)
    def taskito_run_job(self) -> Wrapping:
        try:
            return (yield)
        except Heavy:
            return Returned("rescued")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with Queue(tmp_path / "jobs.db", default_retry=2) as queue:
        queue.plugins = Plugins()
        yield queue


class End(NamedTuple):
    """Of a job: its value, or what its result raises, and how many attempts failed."""

    value: object
    failures: int


def run(queue: Queue, function: Callable[[], object], *plugins: object) -> End:
    """One job, inside of the plugins; the first is the outermost."""
    for plugin in reversed(plugins):
        queue.plugins.register(plugin, type(plugin).__name__, distribution="dist")
    queue.task(name="t")(function)
    return run_again(queue)


def run_again(queue: Queue) -> End:
    with queue.test_mode():
        job = queue.enqueue("t")
        try:
            return End(job.result(LONG), len(job.errors))
        except TaskFailedError as exc:
            return End(str(exc), len(job.errors))


def fail() -> None:
    raise Heavy("as asked")


SLIPS = [
    (ReturnsNothing(), "returned nothing"),
    (SwallowsAndReturnsNothing(), "returned nothing"),
    (DoesNotYield(), "did not yield"),
    (YieldsTwice(), "yielded twice"),
]


@pytest.mark.parametrize(("plugin", "said"), SLIPS, ids=lambda one: type(one).__name__)
def test_a_slip_of_a_wrapper_leaves_the_jobs_value_and_is_told_once(
    queue: Queue, caplog: pytest.LogCaptureFixture, plugin: object, said: str
) -> None:
    assert run(queue, lambda: 42, Masks(), plugin) == End("masked", 0), "others go on as they do"
    queue.plugins.unregister("Masks")
    assert run_again(queue) == End(42, 0)

    [record] = [one for one in caplog.records if one.levelno >= logging.ERROR]
    name = type(plugin).__name__
    assert f"the wrapper of taskito_run_job in plugin {name!r} of dist {said}" in record.message


@pytest.mark.parametrize("plugin", [plugin for plugin, _ in SLIPS], ids=lambda one: type(one).__name__)
def test_a_slip_of_a_wrapper_leaves_the_jobs_own_error_and_its_retries(queue: Queue, plugin: object) -> None:
    end = run(queue, fail, plugin)

    assert "Heavy: as asked" in str(end.value)
    assert end.failures == 3


def test_a_wrapper_outside_of_one_with_a_slip_sees_the_jobs_error(queue: Queue) -> None:
    assert run(queue, fail, Rescues(), ReturnsNothing()) == End("rescued", 0)


@pytest.mark.parametrize(
    ("plugin", "got"),
    [
        (ReturnsTooEarly(), "Returned(value='from a cache')"),
        (ReturnsBareValue(), "42"),
        (OlderKindEmptiesTheBox(), "None"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_wrapper_whose_result_is_none_fails_the_job_at_once_by_its_name(
    queue: Queue, plugin: object, got: str
) -> None:
    end = run(queue, lambda: 42, plugin)

    assert f"in plugin {type(plugin).__name__!r} of dist must return" in str(end.value)
    assert f"got {got}" in str(end.value)
    assert end.failures == 1, "another attempt would do its work again, and lose that too"


@pytest.mark.parametrize("plugin", [ReturnsNothing(), Rescues()], ids=lambda one: type(one).__name__)
def test_stop_iteration_out_of_a_task_is_an_error_like_any_other(queue: Queue, plugin: object) -> None:
    def stop() -> None:
        raise StopIteration("empty")

    assert "StopIteration" in str(run(queue, stop, plugin).value)
