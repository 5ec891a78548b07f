"""A registered function: call it here, or enqueue a call of it. And the registry of a queue's tasks."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import CodeType, FunctionType, MappingProxyType, MethodType
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, Unpack, cast

from taskito.client import aio, canvas
from taskito.client.job_ids import new_ids
from taskito.client.job_template import JobTemplate
from taskito.client.options import job_options, task_options
from taskito.client.options.job_options import JobOptions, JobSpec, call_arguments
from taskito.client.options.task_function import default_name, described, is_async, refuse_unfit
from taskito.client.producer import Producer
from taskito.client.results.job_result import JobResult
from taskito.serialization.import_path import module_name
from taskito_core.errors import ConfigError

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
        self.is_async = is_async(function)
        self.policy = dataclasses.replace(self.template.policy, is_async=self.is_async)
        self.serializer = self.template.serializer
        self.middleware = self.template.middleware
        self.producer = producer
        self.capture_output = job_options.boolean("capture_output", given.get("capture_output", False))
        self._retry_on = task_options.error_types("retry_on", given.get("retry_on") or ())
        self._dont_retry_on = task_options.error_types("dont_retry_on", given.get("dont_retry_on") or ())
        functools.update_wrapper(cast(Function, self), function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]

    def is_retryable(self, error: BaseException) -> bool:
        """May an attempt that raised this be tried again? ``dont_retry_on`` wins over ``retry_on``.

        A group of exceptions is one of theirs if each of its members is.
        """
        if _all_are(error, self._dont_retry_on):
            return False
        return _all_are(error, self._retry_on) if self._retry_on else True

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class AsyncTask(Task[P, R_co]):
    """A Task made of a coroutine function: calling it here gives the coroutine, its job the awaited value."""

    def __call__(  # type: ignore[override]
        self, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R_co]:
        return cast("Coroutine[Any, Any, R_co]", self.function(*args, **kwargs))


def _all_are(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Is it of these kinds, or a group in which everything is, at whatever depth?"""
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, kinds):
            if not isinstance(one, BaseExceptionGroup):
                return False
            waiting += one.exceptions
    return True


for _class in (Call, Task, AsyncTask):
    _class.__module__ = "taskito"


class _Registered(NamedTuple):
    """What a task was made of, and what was being executed then."""

    function: Function
    spec: object  #: of the function's module; ``importlib.reload`` makes a new one
    calls: tuple[CodeType, ...]  #: innermost first, the last is a module's if ``names`` are
    names: dict[str, Any] | None  #: of that module; None: no module was being executed, as in a thread
    line: int  #: in that module


class TaskRegistry:
    """Makes tasks of functions, and keeps one for each name."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._tasks: dict[str, Task[..., Any]] = {}
        self._registered: dict[str, _Registered] = {}
        self.tasks: Mapping[str, Task[..., Any]] = MappingProxyType(self._tasks)  #: a view

    def register(self, function: Callable[..., Any], given: Mapping[str, Any]) -> Task[..., Any]:
        """The task of a function; ``given``: TaskOptions.

        Raises ConfigError for an option that makes no sense and for a name that another function has.
        A function that was defined again takes the place of the old one: its module was reloaded, its
        cell was run again, or its definer was called again and gave it nothing new to work with.
        """
        if isinstance(function, Task):
            raise ConfigError(f"{function!r} is a task already; decorate the function itself")
        refuse_unfit(function)
        name = job_options.name(
            "name", default_name(function) if given.get("name") is None else given["name"]
        )
        new = _registered(function)
        known = self._registered.get(name)
        if known is not None and not _is_redefinition(known, new):
            raise ConfigError(
                f"two functions want to be task {name!r}: {_described(known)} and {_described(new)}; "
                f"give one of them another name, as in @queue.task(name=...){_hint(function)}"
            )
        cls = AsyncTask if is_async(function) else Task
        task: Task[..., Any] = cls(self._producer, function, name, given)
        self._tasks[name] = task
        self._registered[name] = new
        return task


def _registered(function: Function) -> _Registered:
    spec = getattr(function, "__globals__", {}).get("__spec__")
    calls: list[CodeType] = []
    frame = inspect.currentframe()
    while frame is not None:
        calls.append(frame.f_code)
        # A module's own frame, and no function's or class's: only there are the local names the global ones.
        if not frame.f_code.co_flags & inspect.CO_OPTIMIZED and frame.f_locals is frame.f_globals:
            return _Registered(function, spec, tuple(calls), frame.f_globals, frame.f_lineno)
        frame = frame.f_back
    return _Registered(function, spec, tuple(calls), None, 0)


def _is_redefinition(old: _Registered, new: _Registered) -> bool:
    """True if ``new`` is the same function again, and no other one that came to the same name."""
    if old.function is new.function:
        return True
    same_run = old.names is new.names and old.calls[-1] is new.calls[-1]
    if old.names is not None and new.names is not None and not same_run:
        module = [module_name(str(names.get("__name__"))) for names in (old.names, new.names)]
        files = [calls[-1].co_filename for calls in (old.calls, new.calls)]
        # What has a spec or a file is executed as a whole; cells and lines of a session are not.
        if module[0] == module[1] and files[0] == files[1] and _is_whole(new.names):
            return True
    reloaded = new.spec is not None and old.spec is not new.spec
    return _Comparison(new, same_run, reloaded).again(old.function, new.function)


def _is_whole(names: Mapping[str, Any]) -> bool:
    return (names.get("__spec__") or names.get("__file__")) is not None


class _Comparison:
    """Is one function another one made again, of the same source and the same parts?"""

    def __init__(self, made: _Registered, same_run: bool, reloaded: bool) -> None:
        self._made = made
        self._same_run = same_run  #: of the module that makes both
        self._reloaded = reloaded  #: sources may have changed between the two
        self._asked: set[tuple[int, int]] = set()  #: a function that calls itself is among its own parts

    def again(self, old: Any, new: Any) -> bool:
        """True if nothing tells ``new`` from ``old``."""
        if old is new or (id(old), id(new)) in self._asked:
            return True
        if type(old) is not type(new):
            return False
        self._asked.add((id(old), id(new)))
        match old:
            case Task():
                return self.again(old.function, new.function)
            case FunctionType():
                return self._function_again(old, new)
            case MethodType():
                return old.__self__ is new.__self__ and self.again(old.__func__, new.__func__)
            case tuple():
                return len(old) == len(new) and all(map(self.again, old, new))
            case int() | float() | str() | bytes():
                return bool(old == new)
        return False

    def _function_again(self, old: FunctionType, new: FunctionType) -> bool:
        code = new.__code__
        same_source = old.__code__ == code and old.__code__.co_filename == code.co_filename
        if same_source and old.__globals__ is new.__globals__:
            if self._made_in_a_loop(old, new) or not self.again(_defaults(old), _defaults(new)):
                return False
        elif old.__code__ is code or not self._is_edited(old, new):
            return False
        before, now = _held(old), _held(new)
        # What is defined below the function, such as a task that it enqueues, is not there yet.
        return all(
            self.again(before[name], now[name]) if name in now else _is_function(before[name])
            for name in before.keys() & set(code.co_freevars)
        )

    def _is_edited(self, old: FunctionType, new: FunctionType) -> bool:
        if (old.__module__, old.__qualname__) != (new.__module__, new.__qualname__):
            return False
        anonymous = "<lambda>" in new.__qualname__  # which is the name of all of them
        return not anonymous and (self._reloaded or (_interactive(old) and _interactive(new)))

    def _made_in_a_loop(self, old: FunctionType, new: FunctionType) -> bool:
        """Were both made by one execution of the code around them? Then they were meant to differ."""
        code = new.__code__
        if old.__code__ is not code:
            return False
        for around in self._made.calls:
            if any(const is code for const in around.co_consts):
                if self._made.names is not None and around is self._made.calls[-1]:
                    return self._same_run
                cells = zip(code.co_freevars, old.__closure__ or (), new.__closure__ or (), strict=True)
                return any(one is other and name in around.co_cellvars for name, one, other in cells)
        return False


def _defaults(function: FunctionType) -> tuple[Any, ...]:
    return function.__defaults__ or (), tuple((function.__kwdefaults__ or {}).items())


def _held(function: object) -> dict[str, object]:
    """What a function holds of the functions around it, by name."""
    cells = getattr(function, "__closure__", None) or ()
    held = {}
    for name, cell in zip(function.__code__.co_freevars if cells else (), cells, strict=True):  # type: ignore[attr-defined]
        try:
            held[name] = cell.cell_contents
        except ValueError:
            continue  # nothing yet
    return held


def _is_function(value: object) -> bool:
    return isinstance(value, Task | FunctionType)


def _interactive(function: Callable[..., Any]) -> bool:
    """True for a function typed into a session or a Jupyter cell, where names are often defined again."""
    return module_name(function.__module__) == "__main__"


def _described(made: _Registered) -> str:
    """A function, what it holds, and where it was made a task: what tells it from one of the same name."""
    function = made.function
    named = dict(_held(function))
    if isinstance(function, FunctionType) and function.__defaults__:
        arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
        named |= dict(zip(reversed(arguments), reversed(function.__defaults__), strict=False))
    if isinstance(function, MethodType):
        named["self"] = function.__self__
    held = "".join(f" {name}={_short(value)}" for name, value in sorted(named.items()))
    at = f" at {made.calls[-1].co_filename}:{made.line}" if made.names is not None else ""
    return f"{described(function)}{' with' if held else ''}{held}{at}"


def _short(value: object) -> str:
    """For a message that may be logged: numbers as they are, functions by their place, else the type."""
    if isinstance(value, int | float | None):
        return repr(value)
    return described(value) if _is_function(value) else f"<{type(value).__name__}>"


def _hint(function: Function) -> str:
    wrapped = any(map(_is_function, _held(function).values())) and not hasattr(function, "__wrapped__")
    return "; a decorator keeps the name of what it wraps with functools.wraps" if wrapped else ""
