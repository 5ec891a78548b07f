"""The user's object: settings, plugins, tasks, and the store behind them, opened when it is first needed."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from taskito.client import aio, options
from taskito.client.callbacks import Hooks
from taskito.client.options import TaskOptions
from taskito.client.periodic import Scheduling
from taskito.client.task import AsyncTask, Task
from taskito.client.test_mode import Rehearsing
from taskito.config.cpus import available_cpus
from taskito.config.settings import UNSET, Unset, resolve
from taskito.config.timeouts import BOOT_TIMEOUT, GRACEFUL_TIMEOUT
from taskito.running_job.middleware import TaskMiddleware
from taskito.serialization.import_path import module_name
from taskito.serialization.serializers import DEFAULT, Serializer
from taskito_core import plugin_manager
from taskito_core.errors import ConfigError
from taskito_core.hookspecs import OfferKind

if TYPE_CHECKING:
    from taskito_core.storage import Storage

log = logging.getLogger("taskito.worker")

P = ParamSpec("P")
R = TypeVar("R")
Pool = Literal["threads", "prefork"]


class RunningWorker(Protocol):
    """One worker of this process. ``request_shutdown`` may be called at any time, in signal handlers too."""

    def request_shutdown(self) -> None: ...

    def run(self) -> None: ...


class Decorator(Protocol):
    """What ``queue.task(...)`` with options gives."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Queue(Rehearsing, Scheduling):
    """Tasks and the store their jobs live in.

    Constructing one opens nothing, so importing an app is free and cannot fail for a server
    that is down. An argument that is not given is looked for in ``TASKITO_*``, then in
    ``[tool.taskito]`` of pyproject.toml, then has the default. Raises ConfigError for whatever is wrong.
    May be used from any thread, and after a fork: each process opens the store anew.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | Unset = UNSET,
        workers: int | Unset = UNSET,
        default_retry: int | Unset = UNSET,
        default_timeout: float | timedelta | Unset | None = UNSET,
        default_priority: int | Unset = UNSET,
        result_ttl: float | timedelta | Unset | None = UNSET,
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
    ) -> None:
        super().__init__()
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
            }
        )
        self.serializer = DEFAULT if serializer is None else options.serializer("serializer", serializer)
        self.plugins = _load_plugins(self.settings.plugins)
        #: with the backend's own name; what a worker is told
        self.storage_config = self.plugins.normalise(self.settings.storage)
        for kind in (OfferKind.LIMITER, OfferKind.BREAKER, OfferKind.METRICS):
            named = getattr(self.settings, kind)
            self.plugins.chosen(kind, self.storage_config, named)  # Or it is found out in a worker.
        self.callbacks = Hooks(middleware)
        self._tasks = {}
        self._periodic = {}
        self._storages: dict[int, Storage] = {}  # by process id; see ``storage``
        self._sinks = {}  # the same
        self._running: tuple[RunningWorker, ...] = ()
        self._running_lock = threading.Lock()

    # ---- the store ----

    @property
    def storage(self) -> Storage:
        """This process's door to the store; made without I/O, opened by its first use."""
        if modes := self._test_modes:
            return modes[-1]
        # Keyed by process, so that a child never touches what its parent opened, and never drops the
        # last reference to it either: closing an inherited SQLite connection harms the parent's.
        found = self._storages.get(os.getpid())
        if found is None:
            # Two threads may both make one; setdefault lets one win, the other has done no I/O.
            made = self.plugins.open_storage(self.storage_config)
            found = self._storages.setdefault(os.getpid(), made)
        return found

    def close(self) -> None:
        """Give back what this process opened. Idempotent; using the queue again opens it again."""
        for opened in (self._storages.pop(os.getpid(), None), self._sinks.pop(os.getpid(), None)):
            if opened is not None:
                opened.close()

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
        return MappingProxyType(self._tasks)

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
        options.refuse_unknown("task()", given, TaskOptions.__annotations__)
        if function is None:
            return functools.partial(self._register, given=given)
        return self._register(function, given)

    def _register(self, function: Callable[..., Any], given: Mapping[str, Any]) -> Task[..., Any]:
        _refuse_unfit(function)
        name = options.name("name", _default_name(function) if given.get("name") is None else given["name"])
        known = self._tasks.get(name)
        if known is not None and not _is_redefinition(known.function, function):
            raise ConfigError(
                f"two functions want to be task {name!r}: {_place(known.function)} and {_place(function)}; "
                "give one of them another name"
            )
        cls = AsyncTask if inspect.iscoroutinefunction(function) else Task
        task: Task[..., Any] = cls(self, function, name, given)
        self._tasks[name] = task
        return task

    # ---- running ----

    def run_worker(
        self,
        queues: Sequence[str] | None = None,
        pool: Pool = "threads",
        *,
        threads: int | None = None,
        procs: int | None = None,
        app: str | None = None,
        graceful_timeout: float = GRACEFUL_TIMEOUT,
        boot_timeout: float = BOOT_TIMEOUT,
    ) -> None:
        """Run jobs until ``request_shutdown``, SIGINT or SIGTERM; returns when what ran has ended.

        ``pool="threads"`` runs them in ``threads`` threads of this process (default: ``workers``). A
        thread cannot be killed, so a job over its timeout fails after its function returned, a
        ``soft_timeout`` is not enforced, and a job that still runs ``graceful_timeout`` seconds after the
        worker was told to stop goes back to the queue while its thread goes on.
        ``pool="prefork"`` starts ``taskito worker`` for ``app`` (``module:attribute`` of this queue)
        with ``procs`` processes, and waits for it.
        ``queues``: only these; default: every queue the tasks name. Tasks registered later are not run.

        Raises StorageUnavailable if the store did not answer for ``boot_timeout`` seconds at the start,
        or not to the last; other StorageErrors and ConfigError if it cannot start; for
        ``"prefork"`` TaskitoError if the command failed.
        """
        self._run_attached(
            self._make_worker(queues, pool, threads, procs, app, graceful_timeout, boot_timeout)
        )

    async def arun_worker(
        self,
        queues: Sequence[str] | None = None,
        pool: Pool = "threads",
        *,
        threads: int | None = None,
        procs: int | None = None,
        app: str | None = None,
        graceful_timeout: float = GRACEFUL_TIMEOUT,
        boot_timeout: float = BOOT_TIMEOUT,
    ) -> None:
        """``run_worker`` beside an event loop. Cancelling it asks this worker to stop, and does not wait."""
        worker = self._make_worker(queues, pool, threads, procs, app, graceful_timeout, boot_timeout)
        try:
            await aio.in_own_thread(self._run_attached, worker)
        finally:
            worker.request_shutdown()

    @contextmanager
    def embedded_worker(
        self,
        queues: Sequence[str] | None = None,
        *,
        threads: int | None = None,
        graceful_timeout: float = GRACEFUL_TIMEOUT,
        boot_timeout: float = BOOT_TIMEOUT,
    ) -> Iterator[None]:
        """Inside, jobs run in threads of this process; leaving waits until those that run have ended.

        Everything else is as with ``run_worker``; what that would raise is raised on leaving.
        """
        worker = self._make_worker(queues, "threads", threads, None, None, graceful_timeout, boot_timeout)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                self._run_attached(worker)
            except BaseException as exc:
                # Told at once too: the block may be waiting for a result that nobody computes any more.
                log.critical("the embedded worker failed: %s", exc, exc_info=exc)
                failures.append(exc)

        thread = threading.Thread(target=run, name="taskito-worker", daemon=True)
        thread.start()
        try:
            yield
        finally:
            worker.request_shutdown()
            thread.join()
        if failures:
            raise failures[0]

    def _make_worker(
        self,
        queues: Sequence[str] | None,
        pool: Pool,
        threads: int | None,
        procs: int | None,
        app: str | None,
        graceful_timeout: float,
        boot_timeout: float,
    ) -> RunningWorker:
        self._refuse_in_test_mode("a worker")
        names = None if queues is None else options.queue_names("queues", queues)
        if names == ():
            raise ConfigError("queues must name at least one; leave it out for every queue the tasks name")
        grace = options.seconds("graceful_timeout", graceful_timeout)
        boot = options.seconds("boot_timeout", boot_timeout)
        if pool == "threads":
            if procs is not None or app is not None:
                raise ConfigError("procs and app belong to pool='prefork'; a pool of threads takes threads")
            from taskito.client.load_app import manifest_of
            from taskito.worker.threads import ThreadWorker

            count = self.settings.workers if threads is None else options.whole("threads", threads, 1)
            return ThreadWorker(
                self,
                manifest_of(self, "this process"),
                threads=count or available_cpus(),
                queues=names,
                graceful_timeout=grace,
                boot_timeout=boot,
            )
        if pool == "prefork":
            if threads is not None:
                raise ConfigError("threads belongs to pool='threads'; pool='prefork' takes procs")
            from taskito.worker.subprocess_worker import SubprocessWorker

            return SubprocessWorker(
                app=app,
                queues=names,
                procs=None if procs is None else options.whole("procs", procs, 1),
                graceful_timeout=grace,
                boot_timeout=boot,
            )
        raise ConfigError(f"pool must be 'threads' or 'prefork', got {pool!r}")

    def request_shutdown(self) -> None:
        """Ask the workers that ``run_worker`` runs in this process to finish and return. Does not wait.

        May be called from any thread and from a signal handler; nothing happens if none runs.
        """
        for worker in self._running:
            worker.request_shutdown()

    def _run_attached(self, worker: RunningWorker) -> None:
        """Run it to its end; meanwhile ``request_shutdown`` reaches it."""
        with self._running_lock:
            self._running = (*self._running, worker)
        try:
            worker.run()
        finally:
            with self._running_lock:
                self._running = tuple(one for one in self._running if one is not worker)

    def __repr__(self) -> str:
        return f"<Queue {self.storage_config.backend} {self.plugins.describe(self.storage_config)}>"


Queue.__module__ = "taskito"


def _load_plugins(names: tuple[str, ...] | None) -> plugin_manager.Plugins:
    return plugin_manager.load(names)


def _default_name(function: Callable[..., Any]) -> str:
    try:
        return f"{module_name(function.__module__)}.{function.__qualname__}"
    except AttributeError:
        raise ConfigError(f"{function!r} has no name of its own; say @queue.task(name=...)") from None


def _refuse_unfit(function: object) -> None:
    """Raise ConfigError for what is no function, or would not run when it is called."""
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
    """Was it typed into a session or a notebook, where defining a name again is everyday?"""
    return module_name(function.__module__) == "__main__"


def _place(function: object) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name
