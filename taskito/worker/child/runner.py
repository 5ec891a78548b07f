"""One job, from its payload to its result, in whatever process or thread it runs.

Nothing of a task's misbehaviour leaves this module as an exception: every run ends in a result.
Signals, slots and sockets are the business of the caller.
"""

from __future__ import annotations

import contextvars
import json
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Protocol

from taskito.running_job import job_log
from taskito.running_job.job_context import KEPT, JobContext, NoControls, enter
from taskito.serialization.serializers import Inputs, Serializer, load_call
from taskito.serialization.unfit_value import UnfitValue
from taskito.worker.child import inputs as child_inputs
from taskito.worker.child import output, plugin_layers, unreadable
from taskito.worker.child.failures import failure, rejection
from taskito.worker.ipc.failure_events import FailureEvent
from taskito.worker.ipc.wire import JobMessage, ResultKind
from taskito_core.errors import (
    PayloadTooLarge,
    SerializationError,
    StorageError,
    StorageUnavailable,
    TaskitoError,
)
from taskito_core.job import Complete

if TYPE_CHECKING:
    from types import FrameType

    from taskito.running_job.middleware import Chain
    from taskito.worker.child.app import App, AppTask
    from taskito.worker.child.coroutines import Coroutines
    from taskito_core.storage import Storage

#: What a host answers to a process that a task forked and that acts as if it were the job.
NOT_ITS_PROCESS = "only the process that runs a job can speak for it, not one that it forked"


#: The kind of a result, and its body.
Ended = tuple[ResultKind, bytes]
#: What a call gives that has run nothing of the function's body yet.
_NOT_RUN = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})


class Guard(Protocol):
    """Makes the call, and may break into it from outside as long as it has not returned."""

    def __call__(self, call: Callable[[], object], limit: float | None, /) -> object:
        """``call()``; ``limit`` is the task's soft_timeout in seconds, None: it has none."""


class Host(Protocol):
    """The child or the thread's executor, as far as running jobs use it. Any thread may call."""

    def note(self, seq: int, note: job_log.Fields, /) -> None:
        """Have the supervisor store this, before the job's result."""

    def cancel_asked(self, seq: int, /) -> bool: ...


class JobControls:
    """``context.Controls`` of one run."""

    __slots__ = ("_began", "_host", "_job", "_runner", "_task", "recorded")

    def __init__(self, runner: Runner, host: Host, task: AppTask, job: JobMessage) -> None:
        self._runner = runner
        self._host = host
        self._task = task
        self._job = job
        self._began = time.time_ns() // 1_000_000
        self.recorded: bytes | None = None  #: the value, if the task recorded its completion itself

    def cancel_asked(self) -> bool:
        return self._host.cancel_asked(self._job.seq)

    @property
    def serializer(self) -> Serializer:
        return self._task.serializer

    def note(self, note: job_log.Fields) -> None:
        self._host.note(self._job.seq, note)

    def complete_in(self, connection: object, value: object) -> None:
        job = self._job
        body = self._runner.encoded(self._task, value)
        if not self._runner.storage.complete_in(connection, Complete(job.id, job.token, body, self._began)):
            raise StorageError(f"job {job.id} is another worker's by now: roll this transaction back")
        self.recorded = body


@dataclass(slots=True)
class Attempt:
    """One run of a job: what there is to call, and with what."""

    job: JobMessage
    host: Host | None
    task: AppTask
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    inputs: Inputs | None
    context: JobContext
    controls: JobControls | None
    chain: Chain
    isolated: contextvars.Context


class _WithoutInputs(BaseException):
    """A job whose inputs could not be had. No Exception, so that no middleware takes it for the task's."""

    def __init__(self, ended: Ended) -> None:
        super().__init__()
        self.ended = ended


class _ThreadState(threading.local):
    #: Made at the first async task. The default is the class's own: to look in vain for an attribute of a
    #: ``threading.local`` takes two microseconds.
    coroutines: Coroutines | None = None


class Runner:
    """Runs the jobs of one app. Safe to use from several threads; each has its own event loop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._tasks: Mapping[str, AppTask] = app.tasks
        self._callbacks = app.callbacks
        self._max_payload = app.settings.max_payload
        self._local = _ThreadState()
        # The core's own implementation only calls; without a plugin around it, that is two microseconds
        # of pluggy for nothing.
        self._hook = app.plugins.hook.taskito_run_job if plugin_layers.prepare(app.plugins) else None

    @property
    def storage(self) -> Storage:
        return self._app.storage

    def run(self, job: JobMessage, guard: Guard | None = None, host: Host | None = None) -> Ended:
        """The kind of result and its body; see ``wire.ResultKind``. Never raises."""
        attempt = self.prepare(job, host)
        if not isinstance(attempt, Attempt):
            return attempt
        call = partial(attempt.isolated.run, self._surrounded(attempt), *attempt.args, **attempt.kwargs)
        if guard is not None:
            call = partial(guard, call, attempt.task.policy.soft_timeout)
        return self.conclude(attempt, call)

    def prepare(self, job: JobMessage, host: Host | None, wait: bool = True) -> Attempt | Ended:
        """A job that is about to run, or how it ended without.

        ``wait``: for the results of other jobs that it needs; if not, ``coroutine`` does that.
        """
        task = self._tasks.get(job.task_name)
        if task is None:
            return ResultKind.UNKNOWN_TASK, b""
        try:
            args, kwargs, inputs = load_call(task.serializer, job.payload)
            metadata = json.loads(job.metadata) if job.metadata else {}
        except SerializationError as exc:
            return self._unreadable(job, host, exc)
        except BaseException as exc:
            return rejection(exc)
        controls = None if host is None else JobControls(self, host, task, job)
        context = JobContext(
            job.id,
            job.task_name,
            job.queue,
            job.retry_count,
            job.token,
            metadata,
            controls or NoControls(task.serializer),
        )
        context.uncharged = job.crashes + job.interruptions
        if inputs is not None and wait:
            read = self._with_inputs(job, host, inputs, args)
            if isinstance(read, tuple):
                return read
            args = read
        if task.policy.soft_timeout is not None:
            context.soft_deadline = time.monotonic() + task.policy.soft_timeout
        chain = self._callbacks.chain(task.name, task)
        # Each job in its own copy of the context: what it sets must not be seen by the next.
        isolated = contextvars.copy_context()
        isolated.run(enter, context)
        return Attempt(job, host, task, args, kwargs, inputs, context, controls, chain, isolated)

    def conclude(self, attempt: Attempt, call: Callable[[], object]) -> Ended:
        """Make the call, which returns what the task does; how the job ended."""
        task, controls, chain = attempt.task, attempt.controls, attempt.chain
        try:
            value = call()
        except _WithoutInputs as exc:
            return exc.ended
        except plugin_layers.UnfitReturnError as exc:
            return rejection(exc)
        except BaseException as exc:
            if unfit := unreadable.unfit_call(task, exc, attempt.args, attempt.kwargs, attempt.inputs):
                return self._unreadable(attempt.job, attempt.host, unfit)
            return failure(exc, task.is_retryable)
        kind = ResultKind.RETURNED
        try:
            if controls is not None and controls.recorded is not None:
                kind, body = ResultKind.RECORDED, controls.recorded
            else:
                body = self.encoded(task, value)
        except BaseException as exc:
            return rejection(exc)
        if chain.on_success:
            attempt.isolated.run(chain.succeeded, attempt.context, value)
        return kind, body

    def _with_inputs(
        self, job: JobMessage, host: Host | None, inputs: Inputs, args: Sequence[Any]
    ) -> list[Any] | Ended:
        """The arguments, together with those that come from other jobs."""
        try:
            return child_inputs.arguments(self._app, job.id, inputs, args)
        except SerializationError as exc:
            return self._unreadable(job, host, exc)
        except BaseException as exc:
            return failure(exc, lambda error: isinstance(error, StorageUnavailable))

    def _unreadable(self, job: JobMessage, host: Host | None, problem: SerializationError) -> Ended:
        note = None if host is None else partial(host.note, job.seq)
        return unreadable.left_to_others(self._app, job, note, problem)

    @property
    def observes_failures(self) -> bool:
        """Has the app callbacks that are told of failed attempts?"""
        return any(self._callbacks.chain(name, task).observes_failures for name, task in self._tasks.items())

    def notify(self, event: FailureEvent) -> None:
        """Tell the app's callbacks of an attempt that failed, here or in another process. Never raises."""
        task = self._tasks.get(event.context.task_name)
        if task is not None:
            chain = self._callbacks.chain(task.name, task)
            contextvars.copy_context().run(chain.failed, event.context, event.error, event.retry_count)

    @property
    def coroutines(self) -> Coroutines:
        """This thread's event loop."""
        coroutines = self._local.coroutines
        if coroutines is None:
            from taskito.worker.child.coroutines import Coroutines  # asyncio: only for those who use it

            coroutines = self._local.coroutines = Coroutines()
        return coroutines

    def interrupt(self, exc: BaseException, frame: FrameType | None) -> bool:
        """From a signal handler: let ``exc`` reach an async task. False: there is none, raise it."""
        coroutines = self._local.coroutines
        return coroutines is not None and coroutines.interrupt(exc, frame)

    def unfinished(self) -> bool:
        """Has the job that this thread ran last left coroutines behind? To be asked once after each."""
        coroutines = self._local.coroutines
        return coroutines is not None and coroutines.unfinished()

    def finish(self, task_name: str) -> None:
        """End what that job left. It has ended by then: this is not its time any more."""
        coroutines = self._local.coroutines
        assert coroutines is not None
        coroutines.finish(task_name)

    def open_resources(self) -> None:
        """Make what the app has in each child. Raises what its functions raise."""
        self._callbacks.resources.open(self._await_kept)

    def close_resources(self) -> None:
        """Give it back, as long as the event loop is there."""
        self._callbacks.resources.close(self._await_kept)

    def _await_kept(self, coroutine: Coroutine[Any, Any, object]) -> object:
        context = contextvars.copy_context()
        context.run(KEPT.set, True)  # What it starts is there for all jobs.
        return self.coroutines.run(coroutine, context)

    def close(self) -> None:
        """Close this thread's event loop, if it has one."""
        coroutines, self._local.coroutines = self._local.coroutines, None
        if coroutines is not None:
            coroutines.close()

    def _surrounded(self, attempt: Attempt) -> Callable[..., object]:
        """The task's function inside of its middleware, and that inside of the plugins' wrappers.

        What the inner two print is captured, if it is.
        """
        task, context, inputs = attempt.task, attempt.context, attempt.inputs
        function: Callable[..., object] = task.function
        if task.is_async:
            function = partial(self._run_coroutine, function)
        if inputs is not None and inputs.each:
            function = partial(child_inputs.for_each, function)
        if attempt.chain.layers:
            function = partial(attempt.chain.around, context, function)
        if task.capture_output and not isinstance(context.controls, NoControls):
            function = partial(output.captured, context.controls.note, function)
        if self._hook is not None:
            function = partial(self._through_plugins, self._hook, context, function)
        return function

    def _run_coroutine(self, function: Callable[..., Any], *args: object, **kwargs: object) -> object:
        return self.coroutines.run(function(*args, **kwargs), contextvars.copy_context())

    async def coroutine(self, attempt: Attempt) -> object:
        """The same for an ``async def`` task, to be awaited in the attempt's context, beside other jobs."""
        task, context, inputs = attempt.task, attempt.context, attempt.inputs
        args: Sequence[Any] = attempt.args
        if inputs is not None and inputs.results_of is not None:
            # In a thread: the store may take its time, and the other jobs go on.
            from taskito.worker.child.coroutines import in_thread

            read = await in_thread(self._with_inputs, attempt.job, attempt.host, inputs, args)
            if isinstance(read, tuple):
                raise _WithoutInputs(read)
            attempt.args = args = read
        function: Callable[[], Awaitable[object]]
        if inputs is not None and inputs.each:
            function = partial(child_inputs.for_each_coroutine, task.function, *args)
        else:
            function = partial(task.function, *args, **attempt.kwargs)
        if attempt.chain.layers:
            function = partial(attempt.chain.around_coroutine, context, function)
        if task.capture_output:
            function = partial(output.captured_coroutine, context.controls.note, function)
        if self._hook is not None:
            function = partial(plugin_layers.around_coroutine, self._app.plugins, context, function)
        return await function()

    def _through_plugins(
        self, hook: Any, context: JobContext, function: Callable[..., object], *args: object, **kwargs: object
    ) -> object:
        returned = hook(context=context, call=partial(function, *args, **kwargs))
        return plugin_layers.value_of(self._app.plugins, returned)

    def encoded(self, task: AppTask, value: object) -> bytes:
        """The value as bytes. Raises SerializationError and PayloadTooLarge."""
        serializer = task.serializer
        if type(value) in _NOT_RUN:
            raise _not_run(value)
        try:
            body: object = serializer.dumps(value)
        except UnfitValue as unfit:
            raise SerializationError(f"cannot serialise result{unfit.path}: {unfit.problem}") from None
        except TaskitoError:
            raise
        except Exception as exc:
            problem = f"{type(exc).__name__}: {exc}"
            raise SerializationError(f"{serializer!r} cannot serialise the result: {problem}") from exc
        if not isinstance(body, bytes):
            raise SerializationError(f"{serializer!r}.dumps must return bytes, got a {type(body).__name__}")
        if len(body) > self._max_payload:
            size = f"{len(body)} bytes, max_payload is {self._max_payload}"
            raise PayloadTooLarge(f"the result of task {task.name} is {size}")
        return body


def _not_run(value: object) -> SerializationError:
    """The error of a task that returned such a thing: what its function is, and what to do."""
    made = f"{getattr(value, '__qualname__', 'its function')!r}"
    if isinstance(value, CoroutineType):
        value.close()  # or Python warns that it was never awaited, wherever it is
        return SerializationError(
            f"the task returned a coroutine that nothing has run: {made} is async behind a wrapper that is "
            "not; make the wrapper 'async def' too, and let it await what it calls"
        )
    return SerializationError(
        f"the task returned a generator that nothing has run: {made} yields; return a list instead"
    )
