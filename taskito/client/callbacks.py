"""Where a queue's callbacks and middleware are registered, and which of them concern a task.

A task's chain is put together when it is first needed, so callbacks and tasks may be registered in
any order, until a worker starts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, cast, overload

from taskito.client.options.job_options import JobOptions
from taskito.running_job.child_resources import ChildResource, ChildResources
from taskito.running_job.job_context import JobContext
from taskito.running_job.middleware import Chain, Function, Layer, TaskMiddleware, name_of
from taskito_core.errors import ConfigError
from taskito_core.job import AttemptError

F = TypeVar("F", bound=Callable[..., object])
Before = TypeVar("Before", bound=Callable[[JobContext], object])
After = TypeVar("After", bound=Callable[[JobContext, Any, BaseException | None], object])
Success = TypeVar("Success", bound=Callable[[JobContext, Any], object])
Failure = TypeVar("Failure", bound=Callable[[JobContext, AttemptError], object])
Retry = TypeVar("Retry", bound=Callable[[JobContext, AttemptError, int], object])
Stop = TypeVar("Stop", bound=Callable[[], object])
R = TypeVar("R")

#: The arguments that each callback is called with.
_ARGUMENTS = {
    "before": ("ctx",),
    "before_task": ("ctx",),
    "after": ("ctx", "result", "error"),
    "after_task": ("ctx", "result", "error"),
    "on_success": ("ctx", "result"),
    "on_failure": ("ctx", "error"),
    "on_retry": ("ctx", "error", "retry_count"),
    "on_dead": ("ctx", "error"),
    "on_enqueue": ("options",),
    "on_child_start": (),
    "on_child_stop": (),
}
#: Those that may be ``async def``: they are awaited in the event loop of the child's jobs.
_AWAITED = ("on_child_start", "on_child_stop")


class HasMiddleware(Protocol):
    """A task, as far as callbacks concern it."""

    @property
    def middleware(self) -> tuple[TaskMiddleware, ...]: ...


class Callbacks:
    """The middleware and callbacks of one queue. Safe in any thread."""

    def __init__(self, middleware: Sequence[TaskMiddleware] | None) -> None:
        self._middleware = checked_middleware("middleware", middleware)
        self._functions: dict[str, tuple[Function, ...]] = {}
        self._chains: dict[str, tuple[tuple[TaskMiddleware, ...], Chain]] = {}
        self.resources = ChildResources()

    def add_start(self, function: Callable[[], Any]) -> ChildResource[Any]:
        """Register a function that makes something in each child."""
        _refuse_unfit("on_child_start", function)
        return self.resources.add(function)

    def add_stop(self, function: F) -> F:
        """Register a function that is called at the end of each child; returns it."""
        _refuse_unfit("on_child_stop", function)
        self.resources.add_stop(function)
        return function

    def add(self, event: str, function: F) -> F:
        """Register a function for one of the events; returns it, as a decorator does."""
        _refuse_unfit(event, function)
        self._functions[event] = (*self._functions.get(event, ()), function)
        self._chains = {}
        return function

    def chain(self, task_name: str, task: HasMiddleware | None) -> Chain:
        """All that concern this task; None: a task that only other processes know."""
        chains = self._chains  # This one: a chain made now must not outlive a registration in between.
        own = () if task is None else task.middleware
        known, chain = chains.get(task_name, (None, None))
        if chain is None or known is not own:
            chain = self._new_chain(own)
            chains[task_name] = (own, chain)
        return chain

    def apply_on_enqueue(self, task_name: str, task: HasMiddleware | None, said: JobOptions) -> JobOptions:
        """The options of a job that is about to be made, as the ``on_enqueue`` callbacks leave them."""
        callbacks = self.chain(task_name, task).on_enqueue
        if not callbacks:
            return said
        changed: dict[str, Any] = {**said, "task_name": task_name}
        for callback in callbacks:
            callback(changed)
        if (name := changed.pop("task_name", None)) != task_name:
            raise ConfigError(f"on_enqueue must leave task_name as it is, got {name!r} for {task_name!r}")
        return cast("JobOptions", changed)

    def _new_chain(self, of_the_task: tuple[TaskMiddleware, ...]) -> Chain:
        middleware = self._middleware + of_the_task
        # Outermost are the functions that come after: they have no "before" that could fail to be reached.
        layers = [Layer(None, function) for function in self._of("after_task")]
        layers += [Layer(function, None) for function in self._of("before_task")]
        layers += [Layer(_own(one, "before"), _own(one, "after")) for one in middleware]
        on_retry = (*self._of("on_retry"), *_all_own(middleware, "on_retry"))
        return Chain(
            layers=tuple(layer for layer in layers if layer != (None, None)),
            on_enqueue=_all_own(middleware, "on_enqueue"),
            on_success=self._of("on_success")[::-1],
            on_failure=self._of("on_failure")[::-1],
            on_retry=on_retry[::-1],
            on_dead=self._of("on_dead")[::-1],
        )

    def _of(self, event: str) -> tuple[Function, ...]:
        return self._functions.get(event, ())


class CallbackDecorators:
    """The decorators of a queue that register callbacks for all its tasks. The functions stay what they are.

    Raise ConfigError for anything but a plain function of the arguments that the callback is called with.
    """

    callbacks: Callbacks

    def before_task(self, function: Before) -> Before:
        """``f(ctx)`` before each attempt, in the child. Raising fails it, as if the task had raised."""
        return self.callbacks.add("before_task", function)

    def after_task(self, function: After) -> After:
        """``f(ctx, result, error)`` after each attempt, in the child, whatever happened in it.

        What it raises is logged.
        """
        return self.callbacks.add("after_task", function)

    def on_success(self, function: Success) -> Success:
        """``f(ctx, result)`` when a task has returned, in the child, before that is recorded.

        If the process dies in between, the job runs and succeeds again. What it raises is logged.
        """
        return self.callbacks.add("on_success", function)

    def on_failure(self, function: Failure) -> Failure:
        """``f(ctx, error)`` for each attempt that failed, also if its process is gone, once that is recorded.

        Called in some child of the worker between two jobs: at most once, and not at all if that child dies
        or the worker ends first. ``error`` is as in ``job.errors``. What it raises is logged.
        """
        return self.callbacks.add("on_failure", function)

    def on_retry(self, function: Retry) -> Retry:
        """``f(ctx, error, retry_count)`` after ``on_failure`` and like it, if another attempt will follow.

        ``retry_count``: failed attempts of the job so far, this one included unless its process crashed.
        """
        return self.callbacks.add("on_retry", function)

    def on_dead(self, function: Failure) -> Failure:
        """``f(ctx, error)`` after ``on_failure`` and like it, if the job is in the dead letter now."""
        return self.callbacks.add("on_dead", function)

    @overload
    def on_child_start(self, function: Callable[[], Coroutine[Any, Any, R]], /) -> ChildResource[R]: ...
    @overload
    def on_child_start(self, function: Callable[[], R], /) -> ChildResource[R]: ...
    def on_child_start(self, function: Callable[[], Any], /) -> ChildResource[Any]:
        """``f()`` in each child before its first job: makes what all jobs there use. May be ``async def``.

        What it returns is given by a call of the decorated name, in tasks and callbacks of that child. If it
        raises, the child cannot start, and is tried again, later each time.
        """
        return self.callbacks.add_start(function)

    def on_child_stop(self, function: Stop) -> Stop:
        """``f()`` in each child after its last job, unless it is killed. May be ``async def``.

        What ``on_child_start`` made is still there; the last registered is called first. What it raises is
        logged.
        """
        return self.callbacks.add_stop(function)


def checked_middleware(what: str, value: object) -> tuple[TaskMiddleware, ...]:
    """A sequence of TaskMiddleware objects; None: none. Raises ConfigError for anything else."""
    if value is None:
        return ()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise ConfigError(f"{what} must be a list of TaskMiddleware objects, got {value!r}")
    for one in value:
        if isinstance(one, type):
            raise ConfigError(f"{what} must hold objects, got a class; write {one.__name__}(...)")
        if not isinstance(one, TaskMiddleware):
            raise ConfigError(f"{what} must hold TaskMiddleware objects, got {one!r}")
        for event in ("before", "after", "on_retry", "on_enqueue"):
            if (method := _own(one, event)) is not None:
                _refuse_unfit(event, method)
    return tuple(value)


def _own(middleware: TaskMiddleware, event: str) -> Function | None:
    """The method, if it is not the one that does nothing."""
    method: Function = getattr(middleware, event)
    inherited = getattr(method, "__func__", None) is getattr(TaskMiddleware, event)
    return None if inherited else method


def _all_own(middleware: Sequence[TaskMiddleware], event: str) -> tuple[Function, ...]:
    return tuple(method for one in middleware if (method := _own(one, event)) is not None)


def _refuse_unfit(event: str, function: object) -> None:
    """Raise ConfigError for what could not be called, or whose call would do nothing."""
    if not callable(function):
        raise ConfigError(f"{event} must be a function, got {function!r}")
    name = name_of(function)
    awaited = inspect.iscoroutinefunction(function) and event not in _AWAITED
    if awaited or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{event} must be a plain function, and calling {name} would not run its body")
    arguments = _ARGUMENTS[event]
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as exc:
        given = ", ".join(arguments)
        raise ConfigError(f"{event} is called with ({given}), which {name} does not take: {exc}") from None
    except ValueError:  # some functions written in C have no signature
        pass
