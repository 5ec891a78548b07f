"""What an app makes once per child, for all jobs that run there, and gives back at its end."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from taskito.running_job.middleware import Function, name_of

log = logging.getLogger("taskito.worker")

T = TypeVar("T")
_MISSING = object()

#: Runs a coroutine to its end, in the event loop that the child's jobs will run in.
Await = Callable[[Coroutine[Any, Any, Any]], object]


class ChildResource(Generic[T]):
    """What ``@queue.on_child_start`` makes of a function: a call of it in a task gives this child's own."""

    def __init__(self, function: Callable[[], T] | Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.function = function
        self._value: Any = _MISSING

    def __call__(self) -> T:
        """What the function returned when this child started. Raises RuntimeError where none did."""
        if self._value is _MISSING:
            raise RuntimeError(
                f"{name_of(self.function)} is called when a worker's child starts, if registered by then: "
                "what it returns is there inside of tasks, and of callbacks in a worker"
            )
        value: T = self._value
        return value

    def open(self, run: Await) -> None:
        """Call the function, and keep what it returns."""
        value = self.function()
        self._value = run(value) if inspect.iscoroutine(value) else value

    def close(self) -> None:
        """Forget the value."""
        self._value = _MISSING

    def __repr__(self) -> str:
        return f"<{name_of(self.function)} of each child>"


ChildResource.__module__ = "taskito"


class ChildResources:
    """All that one queue's children have of their own. Safe in any thread."""

    def __init__(self) -> None:
        self._resources: list[ChildResource[Any]] = []
        self._stops: list[Function] = []
        self._users = 0  #: workers of this process; the first opens, the last closes
        self._lock = threading.RLock()

    def add(self, function: Callable[[], Any]) -> ChildResource[Any]:
        """One more to be opened, after those before it."""
        resource: ChildResource[Any] = ChildResource(function)
        self._resources.append(resource)
        return resource

    def add_stop(self, function: Function) -> None:
        """To be called before those that were added before it."""
        self._stops.append(function)

    def needs_loop(self) -> list[str]:
        """The functions that must run in the event loop of the jobs."""
        functions = [*(each.function for each in self._resources), *self._stops]
        return [name_of(each) for each in functions if inspect.iscoroutinefunction(each)]

    def open(self, run: Await) -> None:
        """A child starts. Raises what a function raises; then none of them is open."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            try:
                for resource in self._resources:
                    resource.open(run)
            except BaseException:
                self._forget()
                raise

    def close(self, run: Await) -> None:
        """A child ends. What a function raises is logged."""
        with self._lock:
            if self._users > 1:
                self._users -= 1
                return
            for stop in reversed(self._stops):
                try:
                    value = stop()
                    if inspect.iscoroutine(value):
                        run(value)
                except BaseException:
                    log.exception("%s failed at the end of a child", name_of(stop))
            self._forget()

    def _forget(self) -> None:
        self._users -= 1
        for resource in self._resources:
            resource.close()
