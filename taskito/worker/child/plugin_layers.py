"""Plugins' wrappers of ``taskito_run_job``, followed at each step: a slip in one costs no job.

pluggy takes what a wrapper returns for the result, even if that is nothing. Here nothing changes nothing, and
what went wrong is said with the plugin's name.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, cast

import pluggy

from taskito.running_job.job_context import JobContext
from taskito_core.errors import TaskitoError
from taskito_core.hookspecs import Returned
from taskito_core.plugin_manager import Plugins

log = logging.getLogger("taskito.worker")

Wrapping = Generator[None, Returned, object]


class UnfitReturnError(TaskitoError):
    """A wrapper put something in the place of the job's result that is none: what it meant is not known."""

    def __init__(self, plugin: str, value: object) -> None:
        super().__init__(
            f"the wrapper of taskito_run_job in plugin {plugin} must return what its yield gave, "
            f"or a Returned, got {value!r:.200}"
        )


def prepare(plugins: Plugins) -> bool:
    """Follow every wrapper from now on; False: there is none."""
    found = False
    for implementation in plugins.hook.taskito_run_job.get_hookimpls():
        found = found or implementation.wrapper or implementation.hookwrapper
        if implementation.wrapper and not isinstance(implementation.function, PluginLayer):
            label = plugins.label(implementation.plugin_name)
            implementation.function = PluginLayer(label, implementation.function)
    return found


def value_of(plugins: Plugins, returned: object) -> object:
    """The value in what all wrappers together returned. Raises UnfitReturnError."""
    if isinstance(returned, Returned):
        return returned.value
    # Only pluggy's older kind is not followed: it gets a box, into which it may have put anything.
    implementations = plugins.hook.taskito_run_job.get_hookimpls()
    raise UnfitReturnError(
        " or ".join(plugins.label(each.plugin_name) for each in implementations if each.hookwrapper), returned
    )


class PluginLayer:
    """One wrapper. To pluggy it is a generator function like any other."""

    def __init__(self, plugin: str, wrapper: Callable[..., Wrapping]) -> None:
        self._plugin = plugin
        self._wrapper = wrapper
        self._blamed = False

    def __call__(self, *args: Any, **kwargs: Any) -> Generator[None, Returned, Returned]:
        wrapping = self._wrapper(*args, **kwargs)
        try:
            next(wrapping)
        except StopIteration as end:
            if end.value is not None:
                raise UnfitReturnError(self._plugin, end.value) from None
            self._blame("did not yield: jobs run without it")
            return (yield)
        try:
            result = yield
        except BaseException as exc:
            changed = self._resume(wrapping, wrapping.throw, exc)
            if changed is None:
                raise
            return changed
        changed = self._resume(wrapping, wrapping.send, result)
        return result if changed is None else changed

    def _resume(self, wrapping: Wrapping, go_on: Callable[[Any], object], ended: object) -> Returned | None:
        """What the wrapper returns when it is told how the job ended; None: nothing, and that is wrong."""
        try:
            go_on(ended)
        except StopIteration as end:
            if isinstance(end.value, Returned):
                return end.value
            if end.value is not None:
                raise UnfitReturnError(self._plugin, end.value) from None
            self._blame("returned nothing, so that it changed nothing: end it with `return result`")
        else:
            self._blame("yielded twice, so that it changed nothing")
            wrapping.close()
        finally:
            del ended  # An exception's traceback holds this frame, which would hold it: a cycle each time.
        return None

    def _blame(self, what: str) -> None:
        """Once in each process: it would be so for every job."""
        if not self._blamed:
            self._blamed = True
            log.error("the wrapper of taskito_run_job in plugin %s %s", self._plugin, what)


async def around_coroutine(
    plugins: Plugins, context: JobContext, call: Callable[[], Awaitable[object]]
) -> object:
    """What ``plugins.hook.taskito_run_job`` does, for what is awaited: it could only wait for it.

    Wrappers are entered from the last to the first, and left in reverse.
    """
    entered: list[Callable[[Returned | BaseException], object]] = []
    ended: Returned | BaseException
    try:
        for implementation in reversed(plugins.hook.taskito_run_job.get_hookimpls()):
            if implementation.wrapper or implementation.hookwrapper:
                known = {"context": context, "call": _not_yours}
                wrapping = implementation.function(*[known[name] for name in implementation.argnames])
                next(wrapping)
                entered.append(partial(_leave if implementation.wrapper else _leave_with_box, wrapping))
        ended = Returned(await call())
    except BaseException as exc:
        ended = exc
    while entered:
        try:
            ended = cast(Returned, entered.pop()(ended))
        except BaseException as exc:
            ended = exc
    if isinstance(ended, BaseException):
        try:
            raise ended
        finally:
            del ended  # Its traceback holds this frame, which would hold it: a cycle for each failure.
    return value_of(plugins, ended)


def _leave(wrapping: Wrapping, ended: Returned | BaseException) -> object:
    try:
        if isinstance(ended, BaseException):
            wrapping.throw(ended)
        else:
            wrapping.send(ended)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a wrapper of taskito_run_job yielded twice")


def _leave_with_box(wrapping: Generator[None, object, object], ended: Returned | BaseException) -> object:
    """pluggy's older kind: it gets a box that it may put something else into."""
    box = pluggy.Result(None, ended) if isinstance(ended, BaseException) else pluggy.Result(ended, None)
    try:
        wrapping.send(box)
    except StopIteration:
        return box.get_result()
    raise RuntimeError("a wrapper of taskito_run_job yielded twice")


def _not_yours() -> object:
    raise RuntimeError("only the core makes the call that taskito_run_job is given")
