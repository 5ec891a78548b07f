"""The bridge from coroutines to blocking calls.

asyncio is imported only when a coroutine of ours runs, so that programs without one do not pay for it.
"""

from __future__ import annotations

import contextvars
import functools
import math
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from taskito_core.errors import ConfigError, StorageUnavailable
from taskito_core.job import Job

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from taskito_core.storage import Storage

    Waiter = tuple[AbstractEventLoop, Future[Job | None]]
    Answer = Job | BaseException | None

#: Seconds between two questions to a store that does not answer: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0

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


class EndListener:
    """Waits for the ends of all jobs that coroutines wait for, in one thread, which goes when none does."""

    #: Seconds of one call of the store, and those that the thread stays after the last wait.
    ROUND, LINGER = 5.0, 1.0
    #: Seconds between two calls, and for each job that is waited for: what comes meanwhile comes together.
    PAUSE, PAUSE_EACH = 1e-3, 5e-6
    #: Answers that are handed over at once: an event loop has other things to do in between.
    DELIVERED_AT_ONCE = 100

    def __init__(self, storage: Callable[[], Storage]) -> None:
        self._storage = storage
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Waiter]] = {}
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False

    async def ended(self, job_id: str, wait: Wait) -> Job | None:
        """The job when it has ended; None: it is not stored, or has not ended in time.

        A store that is away is waited for. Raises StorageError, and what else the store raises.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        future: Future[Job | None] = loop.create_future()
        waiter = loop, future
        nothing: list[tuple[Future[Job | None], Answer]] = [(future, None)]
        remaining = wait.remaining
        late = None if math.isinf(remaining) else loop.call_later(remaining, _answer, nothing)
        self._add(job_id, waiter)
        try:
            return await future
        finally:
            if late is not None:
                late.cancel()
            self._remove(job_id, waiter)

    def close(self) -> None:
        """Let the thread go, if nobody waits any more. Who waits from now on starts another."""
        with self._lock:
            thread = None if self._waiting else self._thread
            self._closing = True
            self._woken.set()
        if thread is not None and thread is not threading.current_thread() and self._pid == os.getpid():
            thread.join(self.ROUND)

    def _add(self, job_id: str, waiter: Waiter) -> None:
        if self._pid != os.getpid():
            self._reset()  # A fork has neither the thread nor those who wait.
        with self._lock:
            self._waiting.setdefault(job_id, []).append(waiter)
            self._closing = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="taskito-aio-results", daemon=True)
                self._thread.start()
        if not self._woken.is_set():
            self._woken.set()

    def _remove(self, job_id: str, waiter: Waiter) -> None:
        with self._lock:
            waiters = self._waiting.get(job_id, [])
            if waiter in waiters:  # It gave up.
                waiters.remove(waiter)
                if not waiters:
                    del self._waiting[job_id]
                    self._woken.set()

    def _run(self) -> None:
        while True:
            self._woken.clear()
            with self._lock:
                self._forget_closed_loops()
                ids = list(self._waiting)
            if ids:
                self._deliver(self._answers(ids))
                time.sleep(self.PAUSE + len(ids) * self.PAUSE_EACH)
            elif self._closing or not self._woken.wait(self.LINGER):
                with self._lock:
                    if not self._waiting:
                        self._thread = None
                        return

    def _forget_closed_loops(self) -> None:
        """Whose event loop was closed while it waited waits no more, and is told nothing."""
        for job_id, waiters in list(self._waiting.items()):
            waiters[:] = [one for one in waiters if not one[0].is_closed()]
            if not waiters:
                del self._waiting[job_id]

    def _answers(self, ids: list[str]) -> Mapping[str, Answer]:
        try:
            storage = self._storage()
            ended = storage.await_any(ids, self.ROUND, self._woken)
            found = {job.id: job for job in storage.get(ended)} if ended else {}
        except StorageUnavailable:
            time.sleep(_LONGEST_PAUSE)  # Who waits goes on waiting: see ``Wait.ride_out``.
            return {}
        except BaseException as exc:
            return dict.fromkeys(ids, exc)
        jobs = ((job_id, found.get(job_id)) for job_id in ended)
        # Retried meanwhile, it has not ended after all.
        return {job_id: job for job_id, job in jobs if job is None or job.status.finished}

    def _deliver(self, answers: Mapping[str, Answer]) -> None:
        batches: dict[AbstractEventLoop, list[tuple[Future[Job | None], Answer]]] = {}
        with self._lock:
            for job_id, answer in answers.items():
                for loop, future in self._waiting.pop(job_id, ()):
                    batches.setdefault(loop, []).append((future, answer))
        for loop, batch in batches.items():
            for at in range(0, len(batch), self.DELIVERED_AT_ONCE):
                try:
                    loop.call_soon_threadsafe(_answer, batch[at : at + self.DELIVERED_AT_ONCE])
                except RuntimeError:
                    break  # The loop is closed, and the coroutines gone with it.


def _answer(batch: list[tuple[Future[Job | None], Answer]]) -> None:
    """In the event loop."""
    for future, answer in batch:
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)


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

    def ride_out(self, read: Callable[[], T]) -> T:
        """``read()``, again and again while the store does not answer and the wait is not over.

        Raises StorageUnavailable if the store is still away at its end.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return read()
            except StorageUnavailable:
                if self.remaining <= 0:
                    raise
            self.abandoned.wait(max(0.0, min(pause, self.remaining)))
            pause = min(2 * pause, _LONGEST_PAUSE)


def _deadline(timeout: float | None) -> float:
    """On the monotonic clock."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ConfigError(f"timeout must be a number of seconds of 0 or more, or None, got {timeout!r}")
    return time.monotonic() + timeout
