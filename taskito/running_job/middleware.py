"""The user's own code around attempts: middleware, and the chain of all callbacks of one task.

Where callbacks are registered, and when a worker calls them, is decided elsewhere. An observing callback
changes nothing: an exception that it raises is logged with its name.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from taskito.running_job.job_context import JobContext
from taskito_core.job import AttemptError

log = logging.getLogger("taskito.worker")

Function = Callable[..., object]


class TaskMiddleware:
    """Code around every attempt of a task; override what you need.

    One object serves all jobs, in several threads at once: what belongs to an attempt goes
    into ``ctx.state``. Methods are plain functions, for ``async def`` tasks too.
    """

    def before(self, ctx: JobContext) -> None:
        """The attempt is about to start. Raising fails it, as if the task had raised."""

    def after(self, ctx: JobContext, result: Any, error: BaseException | None) -> None:
        """The attempt has ended with ``result``, or with ``error``.

        Called if this ``before`` returned, in the reverse order of those. Raising is logged.
        """

    def on_retry(self, ctx: JobContext, error: AttemptError, retry_count: int) -> None:
        """The attempt has failed and another will follow, which is recorded.

        Runs after the attempt, maybe in another process. ``retry_count``: failed attempts so far.
        Raising is logged.
        """

    def on_enqueue(self, options: MutableMapping[str, Any]) -> None:
        """A job is about to be made, in the producer; change its options here.

        ``options``: what the call said of ``JobOptions``, and ``task_name``, which must stay.
        Raising refuses the job (and all that were to be stored with it), and reaches the caller.
        """


TaskMiddleware.__module__ = "taskito"


class Layer(NamedTuple):
    """What is called before and after one attempt, by one middleware or function."""

    before: Function | None
    after: Function | None


class Chain(NamedTuple):
    """All callbacks of one task, each kind in the order of its calls; layers outermost first."""

    layers: tuple[Layer, ...] = ()
    on_enqueue: tuple[Function, ...] = ()
    on_success: tuple[Function, ...] = ()
    on_failure: tuple[Function, ...] = ()
    on_retry: tuple[Function, ...] = ()
    on_dead: tuple[Function, ...] = ()

    @property
    def observes_failures(self) -> bool:
        """True if it has callbacks for a failed attempt, to be called once the failure is recorded."""
        return bool(self.on_failure or self.on_retry or self.on_dead)

    def around(self, context: JobContext, call: Function, *args: object, **kwargs: object) -> object:
        """``call`` with its arguments, inside all layers; its value, or what it or a ``before`` raised."""
        value: object = None
        error: BaseException | None = None
        begun: list[Layer] = []
        try:
            self._enter(context, begun)
            value = call(*args, **kwargs)
        except BaseException as exc:
            error = exc
        try:
            return self._leave(context, begun, value, error)
        finally:
            del error  # As in ``_leave``.

    async def around_coroutine(self, context: JobContext, call: Callable[[], Awaitable[object]]) -> object:
        """The same for what is awaited."""
        value: object = None
        error: BaseException | None = None
        begun: list[Layer] = []
        try:
            self._enter(context, begun)
            value = await call()
        except BaseException as exc:
            error = exc
        try:
            return self._leave(context, begun, value, error)
        finally:
            del error  # As in ``_leave``.

    def _enter(self, context: JobContext, begun: list[Layer]) -> None:
        for layer in self.layers:
            if layer.before is not None:
                layer.before(context)
            begun.append(layer)

    def _leave(
        self, context: JobContext, begun: list[Layer], value: object, error: BaseException | None
    ) -> object:
        while begun:
            if (after := begun.pop().after) is not None:
                # An interrupt that lands in here ends this hook only: the task's own outcome stands.
                _observe(after, context, value, error)
        if error is None:
            return value
        try:
            raise error
        finally:
            del error  # Its traceback holds this frame, which would hold it: a cycle for each failure.

    def succeeded(self, context: JobContext, value: object) -> None:
        for function in self.on_success:
            _observe(function, context, value)

    def failed(self, context: JobContext, error: AttemptError, retry_count: int | None) -> None:
        """Call those for a failed attempt; ``retry_count`` None: the job is dead."""
        for function in self.on_failure:
            _observe(function, context, error)
        if retry_count is None:
            for function in self.on_dead:
                _observe(function, context, error)
        else:
            for function in self.on_retry:
                _observe(function, context, error, retry_count)


def _observe(function: Function, *arguments: object) -> None:
    try:
        function(*arguments)
    except BaseException:
        log.exception("the hook %s failed", name_of(function))


def name_of(function: object) -> str:
    """``module.qualified.name`` of a function, or its repr if it has no name."""
    name = getattr(function, "__qualname__", None)
    return repr(function) if name is None else f"{getattr(function, '__module__', '?')}.{name}"
