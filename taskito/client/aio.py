"""The bridge from coroutines to blocking calls.

asyncio is imported only when a coroutine of ours runs, so that programs without one do not pay for it.
"""

from __future__ import annotations

import contextvars
import functools
import math
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from taskito_core.errors import ConfigError

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def twin(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """The coroutine method beside a blocking one: ``aenqueue = aio.twin(enqueue)``.

    It takes, returns and raises the same, and the call runs in one of the event loop's threads. A subclass
    that overrides the blocking method changes both.
    """
    name = method.__name__

    @functools.wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        blocking: Callable[P, T] = getattr(self, name)
        return await in_thread(blocking, *args, **kwargs)

    call.__name__ = f"a{name}"
    call.__qualname__ = method.__qualname__.removesuffix(name) + call.__name__
    call.__doc__ = f"``{name}`` without blocking the event loop.\n\n{method.__doc__ or ''}".rstrip()
    return call


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short blocking call in one of the event loop's threads, in a copy of the context."""
    import asyncio

    return await asyncio.to_thread(function, *args, **kwargs)


async def in_own_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call that may wait for long in a thread of its own.

    The event loop's own threads are few: a hundred that wait for results would leave none to enqueue.
    The thread is a daemon: a program that ends does not wait for it. Cancelling the coroutine leaves
    the call running; the caller has to tell it to stop.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(value: T | None, error: BaseException | None) -> None:
        if future.done():  # the coroutine was cancelled meanwhile
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value: T | None = None
        error: BaseException | None = None
        try:
            value = context.run(function, *args, **kwargs)
        except BaseException as exc:
            error = exc
        try:
            loop.call_soon_threadsafe(deliver, value, error)
        except RuntimeError:  # the loop is closed, and the coroutine gone with it
            pass

    threading.Thread(target=run, name=f"taskito-aio-{function.__name__}", daemon=True).start()
    return await future


def off_the_loop(function: Callable[[], T]) -> T:
    """``function()``, in another thread if this one is inside of an event loop, which cannot run a second.

    That thread has a copy of the context; the loop stands still meanwhile.
    """
    import asyncio

    try:
        asyncio.get_running_loop()
        inside = True
    except RuntimeError:
        inside = False
    if not inside:
        return function()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "taskito-aio") as executor:
        return executor.submit(contextvars.copy_context().run, function).result()


class Wait:
    """One wait, from now on. It is over after its timeout, or when another thread sets ``abandoned``.

    ``timeout``: seconds; None: for ever. Raises ConfigError for anything else.
    """

    __slots__ = ("_deadline", "abandoned", "timeout")

    def __init__(self, timeout: float | None, abandoned: threading.Event | None = None) -> None:
        self.timeout = timeout
        self.abandoned = threading.Event() if abandoned is None else abandoned
        self._deadline = _deadline(timeout)

    @property
    def remaining(self) -> float:
        """Seconds, which may be infinite; 0 or less: the wait is over."""
        return -1.0 if self.abandoned.is_set() else self._deadline - time.monotonic()


def _deadline(timeout: float | None) -> float:
    """On the monotonic clock."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ConfigError(f"timeout must be a number of seconds of 0 or more, or None, got {timeout!r}")
    return time.monotonic() + timeout
