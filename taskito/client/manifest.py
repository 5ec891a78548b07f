"""The manifest of an app: what the supervisor has to know of it, made in the process that imported it."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections.abc import Mapping
from typing import Protocol

from taskito.worker.child.app import App
from taskito.worker.ipc.app_manifest import AppManifest
from taskito_core.storage import StorageConfig
from taskito_core.storage_worker import PeriodicEntry


class DeclaredApp(App, Protocol):
    """An app together with what it declares to every worker: the queue."""

    @property
    def storage_config(self) -> StorageConfig: ...
    @property
    def periodic_entries(self) -> Mapping[str, PeriodicEntry]: ...


def manifest_of(queue: DeclaredApp, app: str) -> AppManifest:
    """The manifest of an app that was just loaded; ``app``: the name by which it was found."""
    policies = {
        name: dataclasses.replace(task.policy, notify=queue.callbacks.chain(name, task).observes_failures)
        for name, task in queue.tasks.items()
    }
    ours = threading.current_thread(), threading.main_thread()
    return AppManifest(
        app=app,
        storage=queue.storage_config,
        tasks=policies,
        queues=tuple(sorted({"default"} | {policy.queue for policy in policies.values()})),
        workers=queue.settings.workers,
        max_payload=queue.settings.max_payload,
        metrics=queue.settings.metrics,
        plugins=queue.settings.plugins,
        modules=_own_modules(),
        periodic=tuple(dataclasses.replace(entry, app=app) for entry in queue.periodic_entries.values()),
        limiter=queue.settings.limiter,
        breaker=queue.settings.breaker,
        threads=tuple(thread.name for thread in threading.enumerate() if thread not in ours),
    )


def _own_modules() -> tuple[str, ...]:
    """Modules of the app's own: neither the standard library's, nor installed packages', nor ours."""
    import sysconfig  # not needed by a program that only enqueues

    paths = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    libraries = tuple(os.path.realpath(path) + os.sep for path in paths if path)
    found = []
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        top = name.partition(".")[0]
        if file is None or name == "__main__" or top == "taskito" or top.startswith("taskito_"):
            continue
        if not os.path.realpath(file).startswith(libraries):
            found.append(name)
    return tuple(found)
