"""The part of a queue that runs a worker: in threads of this process, or as a command beside it."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from taskito.client import aio
from taskito.client.base import QueueBase
from taskito.client.manifest import DeclaredApp, manifest_of
from taskito.client.options import job_options
from taskito.config.cpus import available_cpus
from taskito.config.timeouts import BOOT_TIMEOUT, GRACEFUL_TIMEOUT
from taskito_core.errors import ConfigError

log = logging.getLogger("taskito.worker")

Pool = Literal["threads", "prefork"]


class Worker(Protocol):
    """One worker of this process. ``request_shutdown`` may be called at any time, in signal handlers too."""

    def request_shutdown(self) -> None: ...

    def run(self) -> None: ...


class RunningWorkers:
    """The workers that this process runs. Any thread may ask."""

    def __init__(self) -> None:
        self._workers: tuple[Worker, ...] = ()  # replaced and never changed: a signal handler may read it
        self._lock = threading.Lock()

    def run(self, worker: Worker) -> None:
        """Run it to its end; meanwhile ``request_shutdown`` reaches it."""
        with self._lock:
            self._workers = (*self._workers, worker)
        try:
            worker.run()
        finally:
            with self._lock:
                self._workers = tuple(one for one in self._workers if one is not worker)

    def request_shutdown(self) -> None:
        """Ask each to finish. Does not wait."""
        for worker in self._workers:
            worker.request_shutdown()

    def __len__(self) -> int:
        return len(self._workers)


class RunWorker(QueueBase):
    """Running workers, and asking them to stop."""

    running: RunningWorkers

    @property
    @abstractmethod
    def _app(self) -> DeclaredApp:
        """The queue itself, as a worker sees it."""

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
        self.running.run(self._make_worker(queues, pool, threads, procs, app, graceful_timeout, boot_timeout))

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
            await aio.in_own_thread(self.running.run, worker)
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
                self.running.run(worker)
            except BaseException as exc:
                # Logged at once too: the block may be waiting for a result that never comes.
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
    ) -> Worker:
        if self._in_test_mode:
            raise ConfigError(
                "a worker inside of test_mode() would take jobs from the real store; the block runs its own"
            )
        names = None if queues is None else job_options.queue_names("queues", queues)
        if names == ():
            raise ConfigError("queues must name at least one; leave it out for every queue the tasks name")
        grace = job_options.seconds("graceful_timeout", graceful_timeout)
        boot = job_options.seconds("boot_timeout", boot_timeout)
        if job_options.one_of("pool", pool, ("threads", "prefork")) == "threads":
            if procs is not None or app is not None:
                raise ConfigError("procs and app belong to pool='prefork'; a pool of threads takes threads")
            # Imported by those who run one: a program that only enqueues has no need of a worker.
            from taskito.worker.threads import ThreadWorker

            count = self.settings.workers if threads is None else job_options.whole("threads", threads, 1)
            return ThreadWorker(
                self._app,
                manifest_of(self._app, "this process"),
                threads=count or available_cpus(),
                queues=names,
                graceful_timeout=grace,
                boot_timeout=boot,
            )
        if threads is not None:
            raise ConfigError("threads belongs to pool='threads'; pool='prefork' takes procs")
        from taskito.worker.subprocess_worker import SubprocessWorker

        return SubprocessWorker(
            app=app,
            queues=names,
            procs=None if procs is None else job_options.whole("procs", procs, 1),
            graceful_timeout=grace,
            boot_timeout=boot,
        )

    def request_shutdown(self) -> None:
        """Ask the workers that ``run_worker`` runs in this process to finish and return. Does not wait.

        May be called from any thread and from a signal handler; nothing happens if none runs.
        """
        self.running.request_shutdown()
