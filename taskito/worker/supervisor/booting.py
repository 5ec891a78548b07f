"""A worker whose app is not known yet, and how it becomes one that runs."""

from __future__ import annotations

import logging
import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import taskito_core
from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import NEVER, Exit
from taskito.worker.dispatch.pool import Pool
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.ipc.wire import ResultMessage
from taskito.worker.store.admission import open_admission_control
from taskito.worker.store.cron import Schedules
from taskito.worker.store.liveness import PeerLifelines
from taskito.worker.store.metrics import MetricsRecorder, NoRecorder
from taskito.worker.store.requests import Reply, Wakeup
from taskito.worker.store.thread import StoreCalls, StoreThread
from taskito.worker.supervisor.running import Running
from taskito_core.errors import ConfigError
from taskito_core.plugin_manager import Plugins
from taskito_core.storage_worker import WorkerInfo

log = logging.getLogger("taskito.worker")

#: Tasks that a worker names when it begins, at most.
LISTED_TASKS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """Under which id a worker begins, and how that is changed where its peers see it."""

    id: str
    rename: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """What a worker is asked to do; durations in seconds."""

    queues: tuple[str, ...] | None = None  #: None: every queue the app names
    graceful_timeout: float
    boot_timeout: float
    child: ChildOptions = field(default_factory=ChildOptions)  #: of executors that are child processes


class NoExecutors:
    """Takes what a pool reports of executors although the app was refused: the loop ends at its next step."""

    def opened(self, executor_id: int) -> None: ...

    def results(self, executor_id: int, results: Sequence[ResultMessage]) -> None: ...

    def returned(self, executor_id: int, seqs: Sequence[int]) -> None: ...

    def note(self, executor_id: int, seq: int, fields: list[Any]) -> None: ...

    def closing(self, executor_id: int) -> None: ...

    def lost(self, executor_id: int, how: Exit) -> None: ...


class Booting:
    """Waits for the app. Nothing was claimed, so there is nothing to do, to wait for, or to hand back."""

    interrupted = 0
    held = 0
    running = 0
    known_to_store = False

    def __init__(self) -> None:
        self.executors = NoExecutors()

    def step(self, now: float) -> None: ...

    def next_deadline(self) -> float:
        return NEVER

    def take(self, message: Reply | Wakeup, now: float) -> None: ...

    def peer_gone(self) -> None: ...

    def check(self, now: float) -> None: ...

    def drain(self) -> None: ...

    def idle(self) -> bool:
        return True

    def leave(self) -> None: ...

    def finished(self) -> bool:
        return True

    def close(self) -> None: ...


def open_running(
    manifest: AppManifest,
    executors: int,
    *,
    options: LoopOptions,
    identity: WorkerIdentity,
    plugins_for: Callable[[AppManifest], Plugins],
    pool: Pool,
    peers: PeerLifelines,
    post: Callable[[Reply | Wakeup], None],
) -> Running:
    """Open what the app needs: its store, limits, metrics. Raises ConfigError, before any I/O."""
    if not manifest.tasks:
        listed = ", ".join(manifest.modules) or "no modules of yours"
        raise ConfigError(f"{manifest.app} has no tasks; importing it brought in: {listed}")
    plugins = plugins_for(manifest)
    storage = plugins.open_storage(manifest.storage)
    admission = open_admission_control(manifest, plugins)
    sink = plugins.open_metrics(manifest.metrics, manifest.storage)
    schedules = Schedules(manifest.app, manifest.periodic, admission.guarded)
    worker = WorkerInfo(
        id=identity.id,
        host=socket.gethostname(),
        pid=os.getpid(),
        app=manifest.app,
        queues=options.queues or manifest.queues,
        tasks=tuple(sorted(manifest.tasks)),
        procs=executors,
        version=taskito_core.__version__,
    )
    _log_beginning(manifest, worker, plugins.describe(manifest.storage))
    dispatcher = Dispatcher(manifest.tasks, random.random, options.child)
    return Running(
        worker,
        pool,
        dispatcher,
        StoreThread(StoreCalls(storage, plugins, admission, schedules), post),
        admission,
        NoRecorder() if sink is None else MetricsRecorder(sink, dispatcher.tallies),
        peers,
        rename=identity.rename,
        boot_timeout=options.boot_timeout,
    )


def _log_beginning(manifest: AppManifest, worker: WorkerInfo, store: str) -> None:
    log.info(
        "worker %s: app %s, procs %d, queues %s, %s",
        worker.id,
        manifest.app,
        worker.procs,
        ", ".join(worker.queues),
        store,
    )
    more = len(worker.tasks) - LISTED_TASKS
    log.info(
        "%s: %s%s",
        "1 task" if len(worker.tasks) == 1 else f"{len(worker.tasks)} tasks",
        ", ".join(worker.tasks[:LISTED_TASKS]),
        f" and {more} more" if more > 0 else "",
    )
    for name in sorted(set(worker.queues) - set(manifest.queues)):
        log.warning(
            "no task of %s uses the queue %r; only jobs sent there by name will come", manifest.app, name
        )
