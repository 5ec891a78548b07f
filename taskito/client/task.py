"""A registered function: call it here, or ask for it to be called somewhere else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast

from taskito.client import aio, canvas, concurrency, options
from taskito.client.callbacks import checked_middleware
from taskito.client.options import JobOptions, JobSpec
from taskito.client.result import JobResult
from taskito.serialization.serializers import Inputs, Serializer
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito_core import limits
from taskito_core.errors import ConfigError
from taskito_core.job import NewJob, new_ids
from taskito_core.retry import RetryPolicy

if TYPE_CHECKING:
    from taskito.client.enqueue import Producing
    from taskito.config.settings import Settings

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
Function = Callable[..., Any]


class Call(Generic[P, R_co]):
    """A task together with options: what ``task.using(...)`` returns. Immutable."""

    _task: Task[P, R_co]
    _said: JobOptions
    _fields: dict[str, Any]  #: what a NewJob of this call is made of, all but its payload

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> JobResult[R_co]:
        """Enqueue one call and return its handle; the job is stored when this returns.

        Raises TypeError for arguments that the function does not take, SerializationError,
        PayloadTooLarge, StorageUnavailable.
        """
        task = self._task
        made = [task._new_job(self._fields_now(), args, kwargs)]
        [result] = task._queue._submit(made, self._said.get("connection"))
        return result

    adelay = aio.twin(delay)

    def map(self, items: Iterable[Any]) -> list[JobResult[R_co]]:
        """Enqueue one call per item, with the item as its only argument; all are stored, or none."""
        task = self._task
        for name in ("id", "unique_key"):
            if name in self._fields:
                raise ConfigError(
                    f"map() makes many jobs, which cannot share the {name} that using() was given"
                )
        ids = new_ids()
        made = [task._new_job(self._fields_now(), (item,), {}, ids) for item in items]
        return task._queue._submit(made, self._said.get("connection"))

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
        return _bind(Call(), self._task, said, f"using() of task {self._task.name!r}")

    def spec(self, *args: P.args, **kwargs: P.kwargs) -> JobSpec:
        """This call as one job of ``queue.enqueue_many``."""
        return {**self._said, "task_name": self._task.name, "args": args, "kwargs": kwargs}

    def s(self, *args: Any, **kwargs: Any) -> canvas.Signature:
        """This call as a step of a chain, group or chord; results of steps before it come first."""
        return canvas.Signature(self._task, args, kwargs, self._said)

    def si(self, *args: Any, **kwargs: Any) -> canvas.Signature:
        """The same, without the results of steps before it."""
        return canvas.Signature(self._task, args, kwargs, self._said, immutable=True)

    def _fields_now(self) -> dict[str, Any]:
        """``_fields``, or others if ``on_enqueue`` hooks have to be asked for each job."""
        task = self._task
        if not task._queue.callbacks.chain(task.name, task).on_enqueue:
            return self._fields
        return task._fields_of_job(self._said, f"a job of task {task.name!r}, after on_enqueue,")

    def __repr__(self) -> str:
        return f"<{self._task.name} using {self._said!r}>"


def _bind(call: Call[P, R_co], task: Task[P, R_co], said: JobOptions, where: str) -> Call[P, R_co]:
    call._task, call._said = task, said
    call._fields = task._fields_with(said, where)
    return call


class Task(Call[P, R_co]):
    """What ``@queue.task`` makes of a function. Calling it just calls the function."""

    def __init__(
        self, queue: Producing, function: Callable[P, Any], name: str, given: Mapping[str, Any]
    ) -> None:
        self._queue = queue
        self.name = name
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.policy = _policy(name, given, queue.settings)
        self._places = concurrency.read(name, given, self._signature)
        self.serializer: Serializer = (
            options.serializer("serializer", given["serializer"])
            if given.get("serializer") is not None
            else queue.serializer
        )
        self.capture_output = options.boolean("capture_output", given.get("capture_output", False))
        self.middleware = checked_middleware("middleware", given.get("middleware"))
        self._retry_on = options.error_types("retry_on", given.get("retry_on") or ())
        self._dont_retry_on = options.error_types("dont_retry_on", given.get("dont_retry_on") or ())
        self._defaults = _defaults(self.policy, given, queue.settings)
        _bind(self, self, {}, f"task {name!r}")
        functools.update_wrapper(cast(Function, self), function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]

    def is_retryable(self, error: BaseException) -> bool:
        """May an attempt that raised this be tried again? ``dont_retry_on`` wins over ``retry_on``."""
        if isinstance(error, self._dont_retry_on):
            return False
        return isinstance(error, self._retry_on) if self._retry_on else True

    def _new_job(
        self,
        fields: Mapping[str, Any],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        ids: Iterator[str] | None = None,
        inputs: Inputs | None = None,
    ) -> NewJob:
        if inputs is not None:
            self._check_inputs(args, kwargs, inputs)
        elif kwargs or not self._takes[0] <= len(args) <= self._takes[1]:
            self._check_call(args, kwargs)
        if self._places is not None:
            fields = {**fields, **self._places.fields(args, kwargs, inputs)}
        return self._queue._new_job(self.serializer, fields, args, kwargs, ids, inputs)

    def _fields_of_job(self, said: JobOptions, where: str) -> dict[str, Any]:
        """What the next job is made of that this was said about, ``on_enqueue`` hooks included."""
        return self._fields_with(self._queue.callbacks.heard(self.name, self, said), where)

    def _fields_with(self, said: JobOptions, where: str) -> dict[str, Any]:
        fields = options.job_fields(where, said)
        soft, hard = self.policy.soft_timeout, fields.get("timeout", 0.0)
        if soft is not None and 0.0 < hard <= soft:
            raise ConfigError(f"{where}: timeout {hard:g} must be above the task's soft_timeout {soft:g}")
        return {**self._defaults, **fields}

    def _check_call(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Raise TypeError now for what would fail in every attempt."""
        if self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(f"task {self.name!r} takes {self._signature}: {exc}") from None

    def _check_inputs(self, args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs) -> None:
        """The same for a call whose first argument comes from other jobs, or that is made many times."""
        first = () if inputs.results_of is None else (None,)
        for one in cast("list[list[object]]", args[-1]) if inputs.each else [args]:
            if kwargs or not self._takes[0] <= len(first) + len(one) <= self._takes[1]:
                self._check_call((*first, *one), kwargs)

    @functools.cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self.function)
        except (TypeError, ValueError):  # some functions written in C have none
            return None

    @functools.cached_property
    def _takes(self) -> tuple[float, float]:
        """How many positional arguments, from and to, are certainly right."""
        least = most = 0.0
        for parameter in self._signature.parameters.values() if self._signature else ():
            required = parameter.default is parameter.empty
            match parameter.kind:
                case parameter.POSITIONAL_ONLY | parameter.POSITIONAL_OR_KEYWORD:
                    least, most = least + required, most + 1
                case parameter.VAR_POSITIONAL:
                    most = float("inf")
                case parameter.KEYWORD_ONLY if required:
                    least = float("inf")
                case _:
                    pass
        return least, most

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


def call_arguments(args: object, kwargs: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Checked ``args`` and ``kwargs``; ConfigError for what cannot be passed with ``*`` and ``**``."""
    if not isinstance(args, (list, tuple)):
        raise ConfigError(f"args must be a list or a tuple of arguments, got {args!r:.200}")
    if kwargs is None:
        return args, {}
    if type(kwargs) is dict and not kwargs:
        return args, kwargs
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise ConfigError(f"kwargs must be a mapping of argument names to values, got {kwargs!r:.200}")
    return args, kwargs


def _policy(name: str, given: Mapping[str, Any], settings: Settings) -> TaskPolicy:
    hard = options.limit("timeout", given["timeout"]) if "timeout" in given else settings.default_timeout
    soft = options.limit("soft_timeout", given.get("soft_timeout")) or None
    if soft is not None and 0.0 < hard <= soft:
        raise ConfigError(f"soft_timeout {soft:g} of task {name!r} must be below its timeout {hard:g}")
    retries = given.get("max_retries")
    return TaskPolicy(
        name=name,
        queue=options.queue_name("queue", given.get("queue", "default")),
        retry=RetryPolicy(
            max_retries=settings.default_retry if retries is None else options.whole("max_retries", retries),
            backoff=options.seconds("retry_backoff", given.get("retry_backoff", 1.0)),
            delays=options.delays("retry_delays", given.get("retry_delays")),
            max_delay=options.seconds("max_retry_delay", given.get("max_retry_delay", 300.0)),
            jitter=options.boolean("retry_jitter", given.get("retry_jitter", True)),
        ),
        timeout=hard,
        soft_timeout=soft,
        rate_limit=None if given.get("rate_limit") is None else limits.parse_rate(given["rate_limit"]),
        breaker=None
        if given.get("circuit_breaker") is None
        else limits.parse_breaker(given["circuit_breaker"]),
        concurrency=given.get("concurrency"),
    )


def _defaults(policy: TaskPolicy, given: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """What every job of this task says of itself. Retries and timeout are left to the worker's own policy."""
    priority = given.get("priority")
    guarded = policy.rate_limit is not None or policy.breaker is not None
    return {
        "lane": policy.name if guarded else "",
        "task_name": policy.name,
        "queue": policy.queue,
        "priority": settings.default_priority if priority is None else options.priority("priority", priority),
        "result_ttl": options.optional_seconds("result_ttl", given["result_ttl"])
        if "result_ttl" in given
        else settings.result_ttl,
    }
