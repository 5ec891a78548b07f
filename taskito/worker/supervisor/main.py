"""The process behind ``taskito worker``: signals, children, the loop, one exit code.

It imports no user code, never forks and unpickles nothing: whatever a task does to its process, this one
goes on.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import sys
from dataclasses import dataclass

import setproctitle

from taskito.worker.children.launch import LaunchOptions
from taskito.worker.children.process_pool import ProcessPool
from taskito.worker.ipc import platform, signals
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.store.lease import new_worker_id
from taskito.worker.store.liveness import open_lifeline
from taskito.worker.supervisor.booting import LoopOptions, WorkerIdentity
from taskito.worker.supervisor.loop import WorkerLoop
from taskito_core import plugin_manager

log = logging.getLogger("taskito.worker")

#: Seconds the interpreter lets one thread compute before another may: the default of 5 ms is longer than
#: a whole exchange, and would be added to it each time the loop is busy when the store answers.
_SWITCH_INTERVAL = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of ``taskito worker``; durations in seconds."""

    app: str
    procs: int | None  #: None: the app's setting; 0: as many as there are CPUs
    queues: tuple[str, ...] | None  #: None: every queue the app names
    graceful_timeout: float
    boot_timeout: float
    start_method: str
    child: ChildOptions


def run_worker(options: WorkerOptions) -> int:
    """Run one worker in this process until it ends; the exit code. Main thread only."""
    signals.block()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    platform.keep_environment_readable()
    setproctitle.setproctitle(f"taskito: supervisor {options.app}")
    worker_id = new_worker_id()
    lifeline, rename = open_lifeline(worker_id)
    launch = LaunchOptions(
        app=options.app,
        lifeline=lifeline.fd if lifeline else os.open(os.devnull, os.O_RDONLY),
        boot_timeout=options.boot_timeout,
        child=options.child,
    )
    pipe = signals.SignalPipe(signals.HEEDED, signals.IGNORED, last=True)
    with selectors.DefaultSelector() as selector, pipe:
        signals.unblock()
        loop = WorkerLoop(
            LoopOptions(
                queues=options.queues,
                graceful_timeout=options.graceful_timeout,
                boot_timeout=options.boot_timeout,
                child=options.child,
            ),
            lambda manifest: plugin_manager.load(manifest.plugins),
            selector,
            WorkerIdentity(id=worker_id, rename=rename),
            lambda events: ProcessPool(
                launch,
                options.procs,
                selector,
                events,
                start_method=options.start_method,
                rng=random.random,
            ),
        )
        try:
            return loop.run(pipe)
        finally:
            if lifeline is not None:
                lifeline.close(held_for_alive=loop.held_for_alive)
