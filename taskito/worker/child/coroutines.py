"""Running ``async def`` tasks: one event loop per thread, used again for every job.

An interrupt cannot simply be raised in an event loop: it would break the loop, not the task. It is
thrown into the job's coroutine where that waits, as a cancellation is, but as the exception it is.

Several jobs may run in the loop at once; what each of them started is told apart by its context.

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
from typing import Any, ParamSpec, TypeVar

from taskito.running_job import job_context
from taskito.running_job.job_context import KEPT, JobContext
from taskito.worker.child.exit import at_once

log = logging.getLogger("taskito.worker")

P = ParamSpec("P")
T = TypeVar("T")

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
        self._active: InterruptibleCoroutine | None = None  #: of the job that runs alone
        self._beside: set[asyncio.Task[Any]] = set()  #: of the jobs that run beside each other
        self._given_up = False  #: the loop is to be replaced as soon as no job runs in it
        self._used = False  #: a job ran in the loop, and what it left was not checked for since

    def run(self, coroutine: Coroutine[Any, Any, object], context: Context) -> object:
        """Run one job's coroutine to its end; then ask ``unfinished``."""
        runner = self._opened()
        self._active = InterruptibleCoroutine(coroutine, context)
        self._used = True
        try:
            return runner.run(self._active, context=context)
        finally:
            self._active = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._opened().get_loop()

    def start(self, coroutine: Coroutine[Any, Any, object], context: Context) -> InterruptibleCoroutine:
        """In the running loop: begin a job's coroutine beside others. Its ``task`` ends with the job."""
        started = InterruptibleCoroutine(coroutine, context, alone=False)
        started.task = self.loop.create_task(started, context=context)
        self._beside.add(started.task)
        started.task.add_done_callback(self._beside.discard)
        return started

    def _opened(self) -> asyncio.Runner:
        runner = self._runner
        if runner is None or runner.get_loop().is_closed():
            # A task that found the loop with asyncio.get_event_loop() may have closed it.
            runner = self._runner = asyncio.Runner()
        return runner

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
        try:
            ending = loop.create_task(self.finish_left(task_name, lambda: _left(loop)))
            while not ending.done():
                with contextlib.suppress(SystemExit, KeyboardInterrupt):  # What is ended may raise them.
                    loop.run_until_complete(ending)
        except BaseException as exc:
            self._give_up(task_name, f"{type(exc).__name__}: {exc}")
        self.replace()

    def left_by(self, job: JobContext) -> list[asyncio.Task[Any]]:
        """What this job, one of those beside each other, started and has left running; not what is kept."""
        return [
            task
            for task in asyncio.all_tasks(self.loop) - self._beside
            if (context := _context_of(task)) is not None
            and not context.get(KEPT)
            and job_context.current_in(context) is job
        ]

    async def finish_left(self, task_name: str, find: Callable[[], Collection[asyncio.Task[Any]]]) -> None:
        """End what ``find`` finds, which a job of this task left running, and log it."""
        left: set[asyncio.Task[Any]] = set()
        deaf: Collection[asyncio.Task[Any]] = ()
        try:
            await _last_steps()
            deaf = await _end(find, left)
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
        active = self._active
        return active is not None and self.interrupt_one(active, exc, frame)

    def interrupt_one(
        self, active: InterruptibleCoroutine, exc: BaseException, frame: FrameType | None
    ) -> bool:
        """The same for this job of those that run beside each other."""
        if self._runner is None:
            return False
        loop = self._runner.get_loop()
        current = asyncio.tasks.current_task(loop)
        in_a_task = current is not None and (frame is None or frame.f_code not in _OWN_CODE)
        # Inside the coroutine's own code it can be raised at once. Inside another task of the job it must
        # be, if the loop has not turned since the last time: that task does not let it.
        if in_a_task and (current is active.task or (active.asked and active.is_current())):
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
            loop.run_until_complete(
                _end(lambda: asyncio.all_tasks(loop) - {asyncio.current_task(loop)}, set())
            )
            loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), _CLOSE_GRACE))
        _close(loop)

    def _give_up(self, task_name: str, why: str) -> None:
        """The loop is not to be trusted any more; the next job gets a new one: see ``replace``."""
        assert self._runner is not None
        loop, self._given_up = self._runner.get_loop(), True
        kept = [task for task in asyncio.all_tasks(loop) if _is_kept(task)]
        lost = f"; what was kept in it is lost: {_names(kept)}" if kept else ""
        log.error("the event loop that task %s used is given up: %s%s", task_name, why, lost)

    @property
    def given_up(self) -> bool:
        """Nothing more is to be begun in the loop."""
        return self._given_up

    def replace(self) -> None:
        """No job runs in the loop: close it, if it is given up."""
        if self._given_up and self._runner is not None:
            loop, self._runner, self._given_up = self._runner.get_loop(), None, False
            _close(loop)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Await a call that blocks, in a thread; others in the loop go on."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def _last_steps() -> None:
    for _ in range(_LAST_STEPS):
        await asyncio.sleep(0)


def _left(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    current = asyncio.current_task(loop)
    return [task for task in asyncio.all_tasks(loop) if task is not current and not _is_kept(task)]


def _is_kept(task: asyncio.Task[Any]) -> bool:
    """Was it started inside ``current_job.keep_coroutines()``, or by one that was?"""
    context = _context_of(task)
    return context is not None and bool(context.get(KEPT, False))


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    if hasattr(task, "get_context"):
        context: Context = task.get_context()
        return context
    # Python 3.11: it has one, and does not tell.
    return next((found for found in gc.get_referents(task) if isinstance(found, Context)), None)


def _names(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """``Task-7 (poll)``: an asyncio task's own name, which often says nothing, and that of its coroutine."""
    names = []
    for task in tasks:
        coroutine = task.get_coro()
        names.append(f"{task.get_name()} ({getattr(coroutine, '__qualname__', coroutine)})")
    return ", ".join(sorted(names))


async def _end(
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
        await asyncio.wait(waiting, timeout=patience)
        waiting = left()
    if waiting:
        await _close_coroutines(waiting)
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


class InterruptibleCoroutine(collections.abc.Coroutine[Any, Any, object]):
    """A coroutine into which any exception can be thrown from outside, where asyncio only cancels.

    Not ``alone``: what would end the loop, and others with it, ends the coroutine only: see ``result``.
    """

    def __init__(self, inner: Coroutine[Any, Any, object], context: Context, alone: bool = True) -> None:
        self._inner = inner
        self._job = job_context.current_in(context)
        self._alone = alone
        self._exit: BaseException | None = None
        self._abandoned = False
        self.task: asyncio.Task[Any] | None = None
        self.asked = False  #: ``throw_soon`` will be called
        self.pending: BaseException | None = None  #: to be thrown at the next step

    def throw_soon(self, exc: BaseException) -> None:
        """In the loop: wake the coroutine up with ``exc``."""
        self.asked = False
        if self.task is not None and not self.task.done():
            self.pending = exc
            self.task.cancel()

    def is_current(self) -> bool:
        """In a signal handler: is what was interrupted this job's, in whatever task?"""
        return self._job is not None and job_context.current() is self._job

    def abandon(self) -> None:
        """In a process that another job forked: this one is to run on in the original only."""
        self._abandoned = True

    def result(self) -> object:
        """Its value, or raises what ended it, once its task is done."""
        assert self.task is not None
        if self._exit is not None:
            raise self._exit
        return self.task.result()

    def send(self, value: Any) -> Any:
        if self.task is None:
            self.task = asyncio.current_task()
        return self._step(self._inner.send, value)

    def throw(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        if isinstance(typ, BaseException):
            return self._step(self._inner.throw, typ)
        return self._step(self._inner.throw, typ, val, tb)

    def _step(self, go_on: Callable[..., Any], *arguments: Any) -> Any:
        if self._abandoned:
            at_once(1, "taskito: an async task forked, and its copy came back to the event loop of others\n")
        try:
            # Pending: what it waited for did not pass the cancellation on.
            return go_on(*arguments) if self.pending is None else self._throw_pending()
        except (SystemExit, KeyboardInterrupt) as exc:
            if self._alone:
                raise
            self._exit = exc
            raise StopIteration from None

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
        InterruptibleCoroutine.send.__code__,
        InterruptibleCoroutine.throw.__code__,
        InterruptibleCoroutine._step.__code__,
        InterruptibleCoroutine._throw_pending.__code__,
    }
)
