"""The user's object: settings, plugins, tasks, and the store behind them, opened when it is first needed."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from taskito.client import aio
from taskito.client.backends import ConfiguredBackends, load_plugins
from taskito.client.base import Backends
from taskito.client.callbacks import CallbackDecorators, Callbacks
from taskito.client.control import Control
from taskito.client.enqueue import Enqueue
from taskito.client.inspect import Inspect
from taskito.client.manifest import DeclaredApp
from taskito.client.options import job_options, task_options
from taskito.client.options.job_options import Lifetime
from taskito.client.options.task_options import TaskOptions
from taskito.client.periodic import Periodic
from taskito.client.producer import Producer
from taskito.client.results.job_result import JobResult
from taskito.client.run_worker import RunningWorkers, RunWorker
from taskito.client.task import AsyncTask, Task, TaskRegistry
from taskito.client.test_mode.mode import InTestMode
from taskito.config.settings import UNSET, Unset, resolve
from taskito.running_job.middleware import TaskMiddleware
from taskito.serialization.serializers import DEFAULT, Serializer
from taskito_core.job import Job
from taskito_core.storage import Storage, StorageConfig

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What ``queue.task(...)`` with options gives."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Queue(Enqueue, Inspect, Control, Periodic, CallbackDecorators, RunWorker, InTestMode):
    """Tasks and the store their jobs live in.

    Constructing one opens nothing, so importing an app is free and cannot fail for a server
    that is down. An argument that is not given is looked for in ``TASKITO_*``, then in
    ``[tool.taskito]`` of pyproject.toml, then has the default. Raises ConfigError for a value that makes
    no sense.
    May be used from any thread, and after a fork: each process opens the store anew.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | Unset = UNSET,
        workers: int | Unset = UNSET,
        default_retry: int | Unset = UNSET,
        default_timeout: float | timedelta | Unset | None = UNSET,
        default_priority: int | Unset = UNSET,
        result_ttl: Lifetime | Unset | None = UNSET,
        serializer: Serializer | None = None,
        middleware: Sequence[TaskMiddleware] | None = None,
        backend: str | Unset = UNSET,
        db_url: str | Unset | None = UNSET,
        schema: str | Unset = UNSET,
        *,
        pool_size: int | Unset | None = UNSET,
        auto_migrate: bool | Unset = UNSET,
        durability: str | Unset = UNSET,
        plugins: Sequence[str] | Unset | None = UNSET,
        limiter: str | Unset | None = UNSET,
        breaker: str | Unset | None = UNSET,
        metrics: str | Unset | None = UNSET,
        max_payload: int | Unset = UNSET,
        max_crashes: int | Unset = UNSET,
        unreadable_ttl: float | timedelta | Unset | None = UNSET,
    ) -> None:
        self.settings = resolve(
            {
                "db_path": db_path,
                "workers": workers,
                "default_retry": default_retry,
                "default_timeout": default_timeout,
                "default_priority": default_priority,
                "result_ttl": result_ttl,
                "backend": backend,
                "db_url": db_url,
                "schema": schema,
                "pool_size": pool_size,
                "auto_migrate": auto_migrate,
                "durability": durability,
                "plugins": plugins,
                "limiter": limiter,
                "breaker": breaker,
                "metrics": metrics,
                "max_payload": max_payload,
                "max_crashes": max_crashes,
                "unreadable_ttl": unreadable_ttl,
            }
        )
        self.serializer = DEFAULT if serializer is None else task_options.serializer("serializer", serializer)
        self.plugins = load_plugins(self.settings)
        self.callbacks = Callbacks(middleware)
        self.configured = ConfiguredBackends(self.plugins, self.settings)  #: what the settings name
        self._producer = Producer(self)
        self._registry = TaskRegistry(self._producer)
        self.periodic_entries = {}
        self.running = RunningWorkers()
        self._end_listener = aio.EndListener(lambda: self.storage)
        self._blocks = ()
        self._blocks_lock = threading.Lock()

    # ---- what its parts share ----

    @property
    def backends(self) -> Backends:
        return self._blocks[-1] if self._blocks else self.configured

    @property
    def storage(self) -> Storage:
        """This process's storage; made without I/O, opened by its first use."""
        # As in the base, without a step on the way of every enqueue.
        return self._blocks[-1].storage if self._blocks else self.configured.storage

    @property
    def storage_config(self) -> StorageConfig:
        """What a worker opens the storage by."""
        return self.configured.storage_config

    @property
    def _app(self) -> DeclaredApp:
        return self

    def _handle(self, job_id: str, job: Job | None = None) -> JobResult[Any]:
        return JobResult(self, job_id, job)

    def close(self) -> None:
        """Give back what this process opened. Idempotent; using the queue again opens it again."""
        self._end_listener.close()
        self.configured.close()

    aclose = aio.twin(close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # ---- tasks ----

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """Every task that was registered, by name. A view."""
        return self._registry.tasks

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, **options: Unpack[TaskOptions]) -> Decorator: ...
    def task(  # type: ignore[misc]  # mypy does not see that **given takes what TaskOptions names
        self, function: Callable[..., Any] | None = None, /, **given: Any
    ) -> Any:
        """Register a function as a task: ``@queue.task`` or ``@queue.task(max_retries=5)``.

        Raises ConfigError for an option that makes no sense and for a name that another function has.
        """
        job_options.refuse_unknown("task()", given, TaskOptions.__annotations__)
        if function is None:
            return functools.partial(self._registry.register, given=given)
        return self._registry.register(function, given)

    def __repr__(self) -> str:
        return f"<Queue {self.configured!r}>"


Queue.__module__ = "taskito"
