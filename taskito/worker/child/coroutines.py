"""Running ``async def`` tasks: one event loop per thread, used again for every job.

An interrupt cannot simply be raised in an event loop: it would break the loop, not the task. It is
thrown into the job's coroutine where that waits, as a cancellation is, but as the exception it is.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
from collections.abc import Coroutine
from contextvars import Context
from types import CodeType, FrameType, TracebackType
from typing import Any


class Coroutines:
    """The event loop of one thread."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._active: _Interruptible | None = None

    def run(self, coroutine: Coroutine[Any, Any, object], context: Context) -> object:
        """Run one job's coroutine to its end; what it left running in the loop is cancelled."""
        runner = self._runner
        if runner is None or runner.get_loop().is_closed():
            # A task that found the loop with asyncio.get_event_loop() may have closed it.
            runner = self._runner = asyncio.Runner()
        loop = runner.get_loop()
        self._active = _Interruptible(coroutine)
        try:
            return runner.run(self._active, context=context)
        finally:
            self._active = None
            self._clean(loop)

    def interrupt(self, exc: BaseException, frame: FrameType | None) -> bool:
        """Called in a signal handler: see that ``exc`` reaches the coroutine. False: raise it right here."""
        active, runner = self._active, self._runner
        if active is None or runner is None:
            return False
        loop = runner.get_loop()
        current = asyncio.tasks.current_task(loop)
        in_a_task = current is not None and (frame is None or frame.f_code not in _OWN_CODE)
        # Inside the coroutine's own code it can be raised at once. Inside another task of the job it must
        # be, if the loop has not turned since the last time: that task does not let it.
        if in_a_task and (current is active.task or active.asked):
            return False
        active.asked = True
        loop.call_soon_threadsafe(active.throw_soon, exc)
        return True

    def close(self) -> None:
        """Close the loop, its executor and its generators."""
        runner, self._runner = self._runner, None
        if runner is not None:
            with contextlib.suppress(Exception):
                runner.close()

    def _clean(self, loop: asyncio.AbstractEventLoop) -> None:
        left = asyncio.all_tasks(loop)
        if not left:
            return
        try:
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        except BaseException:
            # The loop is not to be trusted any more; the next job gets a new one.
            self._runner = None
            raise


class _Interruptible(collections.abc.Coroutine[Any, Any, object]):
    """A coroutine into which any exception can be thrown from outside, where asyncio only cancels."""

    def __init__(self, inner: Coroutine[Any, Any, object]) -> None:
        self._inner = inner
        self.task: asyncio.Task[Any] | None = None
        self.asked = False  #: ``throw_soon`` will be called
        self.pending: BaseException | None = None  #: to be thrown at the next step

    def throw_soon(self, exc: BaseException) -> None:
        """In the loop: wake the coroutine up with ``exc``."""
        self.asked = False
        if self.task is not None and not self.task.done():
            self.pending = exc
            self.task.cancel()

    def send(self, value: Any) -> Any:
        if self.task is None:
            self.task = asyncio.current_task()
        if self.pending is not None:
            # What it waited for did not pass the cancellation on.
            return self._throw_pending()
        return self._inner.send(value)

    def throw(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        if self.pending is not None:
            return self._throw_pending()
        if isinstance(typ, BaseException):
            return self._inner.throw(typ)
        return self._inner.throw(typ, val, tb)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        raise TypeError("an interruptible coroutine is run by a task only")

    def _throw_pending(self) -> Any:
        exc, self.pending = self.pending, None
        assert exc is not None
        if self.task is not None:
            self.task.uncancel()  # It is no cancellation: asyncio.timeout() and TaskGroup count those.
        return self._inner.throw(exc)


_OWN_CODE: frozenset[CodeType] = frozenset(
    {
        _Interruptible.send.__code__,
        _Interruptible.throw.__code__,
        _Interruptible._throw_pending.__code__,
    }
)
