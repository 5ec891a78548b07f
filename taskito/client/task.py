"""A registered function: call it here, or enqueue a call of it. And the registry of a queue's tasks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast

from taskito.client import aio, canvas, options, task_options
from taskito.client.job_template import JobTemplate
from taskito.client.options import JobOptions, JobSpec, call_arguments
from taskito.client.producer import Producer
from taskito.client.result import JobResult
from taskito.serialization.import_path import module_name
from taskito_core.errors import ConfigError
from taskito_core.job import new_ids

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
Function = Callable[..., Any]


class Call(Generic[P, R_co]):
    """A task together with options: what ``task.using(...)`` returns. Immutable."""

    def __init__(self, template: JobTemplate, said: JobOptions, where: str) -> None:
        self.name = template.name  #: the task's
        self._template = template
        self._said = said
        self._fields = template.fields(said, where)

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> JobResult[R_co]:
        """Enqueue one call and return its handle; the job is stored when this returns.

        Raises TypeError for arguments that the function does not take, SerializationError,
        PayloadTooLarge, StorageUnavailable.
        """
        template = self._template
        made = [template.new_job(self._fields_now(), args, kwargs)]
        [result] = template.producer.submit(made, self._said.get("connection"))
        return result

    adelay = aio.twin(delay)

    def map(self, items: Iterable[Any]) -> list[JobResult[R_co]]:
        """Enqueue one call per item, with the item as its only argument; all are stored, or none."""
        template = self._template
        for name in ("id", "unique_key"):
            if name in self._fields:
                raise ConfigError(
                    f"map() makes many jobs, which cannot share the {name} that using() was given"
                )
        ids = new_ids()
        made = [template.new_job(self._fields_now(), (item,), {}, ids) for item in items]
        return template.producer.submit(made, self._said.get("connection"))

    amap = aio.twin(map)  # noqa: A003  # the method above, and not the builtin

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> JobResult[R_co]:
        """``using(**options).delay(*args, **kwargs)``, untyped, for those who know it from elsewhere."""
        args, kwargs = call_arguments(args, kwargs)
        call = self.using(**options) if options else self
        return call.delay(*args, **kwargs)

    aapply_async = aio.twin(apply_async)

    def using(self, **options: Unpack[JobOptions]) -> Call[P, R_co]:
        """The same call with other options; those said before stay unless said again."""
        said = cast(JobOptions, {**self._said, **options})
        return Call(self._template, said, f"using() of task {self.name!r}")

    def spec(self, *args: P.args, **kwargs: P.kwargs) -> JobSpec:
        """This call as one job of ``queue.enqueue_many``."""
        return {**self._said, "task_name": self.name, "args": args, "kwargs": kwargs}

    def s(self, *args: Any, **kwargs: Any) -> canvas.Signature:
        """This call as a step of a chain, group or chord; results of steps before it come first."""
        return canvas.Signature(self._template, args, kwargs, self._said)

    def si(self, *args: Any, **kwargs: Any) -> canvas.Signature:
        """The same, without the results of steps before it."""
        return canvas.Signature(self._template, args, kwargs, self._said, immutable=True)

    def _fields_now(self) -> Mapping[str, Any]:
        """``_fields``, or others if ``on_enqueue`` callbacks have to be asked for each job."""
        if not self._template.has_on_enqueue:
            return self._fields
        return self._template.fields_now(self._said, f"a job of task {self.name!r}, after on_enqueue,")

    def __repr__(self) -> str:
        return f"<{self.name} using {self._said!r}>"


class Task(Call[P, R_co]):
    """What ``@queue.task`` makes of a function. Calling it just calls the function."""

    def __init__(
        self, producer: Producer, function: Callable[P, Any], name: str, given: Mapping[str, Any]
    ) -> None:
        super().__init__(JobTemplate(producer, function, name, given), {}, f"task {name!r}")
        self.template = self._template
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.policy = self.template.policy
        self.serializer = self.template.serializer
        self.middleware = self.template.middleware
        self.producer = producer
        self.capture_output = options.boolean("capture_output", given.get("capture_output", False))
        self._retry_on = task_options.error_types("retry_on", given.get("retry_on") or ())
        self._dont_retry_on = task_options.error_types("dont_retry_on", given.get("dont_retry_on") or ())
        functools.update_wrapper(cast(Function, self), function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]

    def is_retryable(self, error: BaseException) -> bool:
        """May an attempt that raised this be tried again? ``dont_retry_on`` wins over ``retry_on``."""
        if isinstance(error, self._dont_retry_on):
            return False
        return isinstance(error, self._retry_on) if self._retry_on else True

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class AsyncTask(Task[P, R_co]):
    """A Task made of a coroutine function: calling it here gives the coroutine, its job the awaited value."""

    def __call__(  # type: ignore[override]
        self, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R_co]:
        return cast("Coroutine[Any, Any, R_co]", self.function(*args, **kwargs))


for _class in (Call, Task, AsyncTask):
    _class.__module__ = "taskito"


class TaskRegistry:
    """Makes tasks of functions, and keeps one for each name."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._tasks: dict[str, Task[..., Any]] = {}
        self.tasks: Mapping[str, Task[..., Any]] = MappingProxyType(self._tasks)  #: a view

    def register(self, function: Callable[..., Any], given: Mapping[str, Any]) -> Task[..., Any]:
        """The task of a function; ``given``: TaskOptions.

        Raises ConfigError for an option that makes no sense and for a name that another function has.
        """
        _refuse_unfit(function)
        name = options.name("name", _default_name(function) if given.get("name") is None else given["name"])
        known = self._tasks.get(name)
        if known is not None and not _is_redefinition(known.function, function):
            raise ConfigError(
                f"two functions want to be task {name!r}: {_place(known.function)} and {_place(function)}; "
                "give one of them another name"
            )
        cls = AsyncTask if inspect.iscoroutinefunction(function) else Task
        task: Task[..., Any] = cls(self._producer, function, name, given)
        self._tasks[name] = task
        return task


def _default_name(function: Callable[..., Any]) -> str:
    try:
        return f"{module_name(function.__module__)}.{function.__qualname__}"
    except AttributeError:
        raise ConfigError(f"{function!r} has no name of its own; say @queue.task(name=...)") from None


def _refuse_unfit(function: object) -> None:
    """Raise ConfigError for anything but a function whose body runs when it is called."""
    if isinstance(function, Task):
        raise ConfigError(f"{function!r} is a task already; decorate the function itself")
    if isinstance(function, type) or not callable(function):
        raise ConfigError(f"a task must be a function, got {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(
            f"{_place(function)} is a generator: calling it would run none of its body; return a list instead"
        )


def _is_redefinition(old: Callable[..., Any], new: Callable[..., Any]) -> bool:
    """True if ``new`` is the same function again: reloaded, its cell run again, its definer called again."""
    if old is new:
        return True
    code, again = getattr(old, "__code__", None), getattr(new, "__code__", None)
    if code is None or again is None or old.__qualname__ != new.__qualname__:
        return False
    same_place = (code.co_filename, code.co_firstlineno) == (again.co_filename, again.co_firstlineno)
    return same_place or (_interactive(old) and _interactive(new))


def _interactive(function: Callable[..., Any]) -> bool:
    """True for a function typed into a session or a Jupyter cell, where names are often defined again."""
    return module_name(function.__module__) == "__main__"


def _place(function: object) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name
