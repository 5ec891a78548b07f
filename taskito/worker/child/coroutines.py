"""Running ``async def`` tasks: one event loop per thread, used again for every job.

An interrupt cannot simply be raised in an event loop: it would break the loop, not the task. It is
thrown into the job's coroutine where that waits, as a cancellation is, but as the exception it is.

A job ends when its own coroutine does. Others that it left running in the loop are ended after that, when its
result is on its way, for a bounded time; those that were started to be kept go on whenever the loop runs.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextvars import Context
from types import CodeType, FrameType, TracebackType
from typing import Any

from taskito.running_job.job_context import KEPT

log = logging.getLogger("taskito.worker")

#: What is left running is cancelled, and once more after so many seconds each while it does not end.
_PATIENCE = (1.0, 0.5, 0.5)
#: Turns of the loop for what was cancelled already, or is about to end, when the job ends.
_LAST_STEPS = 5
#: Seconds that asynchronous generators get when the loop is closed.
_CLOSE_GRACE = 1.0

#: What could not be ended is never freed either: that would run it once more, with no loop to await in.
_endless: list[asyncio.Task[Any]] = []


class Coroutines:
    """The event loop of one thread."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._active: _Interruptible | None = None
        self._used = False  #: a job ran in the loop, and what it left was not checked for since

    def run(self, coroutine: Coroutine[Any, Any, object], context: Context) -> object:
        """Run one job's coroutine to its end; then ask ``unfinished``."""
        runner = self._runner
        if runner is None or runner.get_loop().is_closed():
            # A task that found the loop with asyncio.get_event_loop() may have closed it.
            runner = self._runner = asyncio.Runner()
        self._active = _Interruptible(coroutine)
        self._used = True
        try:
            return runner.run(self._active, context=context)
        finally:
            self._active = None

    def unfinished(self) -> bool:
        """Has the last job left coroutines that are to end with it? To be asked once after each."""
        used, self._used = self._used, False
        return used and self._runner is not None and bool(_left(self._runner.get_loop()))

    def finish(self, task_name: str) -> None:
        """End what a job of this task left running in the loop, and log it. Never raises.

        Takes two seconds at most, unless something in the loop blocks it.
        """
        assert self._runner is not None
        loop = self._runner.get_loop()
        left: set[asyncio.Task[Any]] = set()
        deaf: Collection[asyncio.Task[Any]] = ()
        try:
            loop.run_until_complete(_last_steps())
            deaf = _end(loop, lambda: _left(loop), left)
        except BaseException as exc:
            self._give_up(task_name, f"{type(exc).__name__}: {exc}")
        else:
            if endless := [task for task in deaf if not task.done()]:
                self._give_up(task_name, f"{_names(endless)} cannot be ended")
        if left:
            log.warning(
                "task %s left coroutines running when it ended, which were cancelled: %s%s; "
                "start what is to outlive a job inside `with current_job.keep_coroutines():`",
                task_name,
                _names(left),
                f" (in vain, and closed then: {_names(deaf)})" if deaf else "",
            )

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
        """End all that runs in the loop, for a bounded time, and close it. Its threads are not waited for."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        loop = runner.get_loop()
        if loop.is_closed():
            return
        with contextlib.suppress(BaseException):
            _end(loop, lambda: asyncio.all_tasks(loop), set())
            loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), _CLOSE_GRACE))
        _close(loop)

    def _give_up(self, task_name: str, why: str) -> None:
        """The loop is not to be trusted any more; the next job gets a new one."""
        assert self._runner is not None
        loop, self._runner = self._runner.get_loop(), None
        kept = [task for task in asyncio.all_tasks(loop) if _is_kept(task)]
        lost = f"; what was kept in it is lost: {_names(kept)}" if kept else ""
        log.error("the event loop that task %s used is given up: %s%s", task_name, why, lost)
        _close(loop)


async def _last_steps() -> None:
    for _ in range(_LAST_STEPS):
        await asyncio.sleep(0)


def _left(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks(loop) if not _is_kept(task)]


def _is_kept(task: asyncio.Task[Any]) -> bool:
    """Was it started inside ``current_job.keep_coroutines()``, or by one that was?"""
    if hasattr(task, "get_context"):
        context = task.get_context()
    else:  # Python 3.11: it has one, and does not tell.
        context = next((found for found in gc.get_referents(task) if isinstance(found, Context)), None)
    return context is not None and bool(context.get(KEPT, False))


def _names(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """``Task-7 (poll)``: an asyncio task's own name, which often says nothing, and that of its coroutine."""
    names = []
    for task in tasks:
        coroutine = task.get_coro()
        names.append(f"{task.get_name()} ({getattr(coroutine, '__qualname__', coroutine)})")
    return ", ".join(sorted(names))


def _end(
    loop: asyncio.AbstractEventLoop,
    left: Callable[[], Collection[asyncio.Task[Any]]],
    found: set[asyncio.Task[Any]],
) -> Collection[asyncio.Task[Any]]:
    """Cancel what is left, again and again; what did not end by that, and was closed from outside.

    ``found`` takes all that there was: one that ends may have started others.
    """
    waiting = left()
    for patience in _PATIENCE:
        if not waiting:
            return ()
        found.update(waiting)
        for task in waiting:
            task.cancel()
        loop.run_until_complete(asyncio.wait(waiting, timeout=patience))
        waiting = left()
    if waiting:
        loop.run_until_complete(_close_coroutines(waiting))
    return waiting


async def _close_coroutines(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Inside of the loop, where a coroutine that goes on all the same can await, and so is seen to."""
    for task in tasks:
        # Whoever swallows a CancelledError seldom swallows this GeneratorExit too. Then there is nothing
        # left to run, and that is what the task fails with when it is woken up.
        with contextlib.suppress(BaseException):
            task.get_coro().close()
        task.cancel()
    await _last_steps()
    for task in tasks:
        if not task.done():
            _endless.append(task)
        elif not task.cancelled():
            task.exception()  # Asked for, so that asyncio does not report it.


def _close(loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(Exception):
        asyncio.set_event_loop(None)
        loop.close()


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
