"""Finding the app: ``module:attribute`` to its Queue, and what a worker has to know of it."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import sys
import sysconfig
import threading
from types import ModuleType

from taskito.client.queue import Queue
from taskito.worker.ipc.app_manifest import AppManifest
from taskito_core.errors import ConfigError


class AppLoadError(ConfigError):
    """``--app`` does not name a Queue; the app's own errors are never turned into this one."""


def load_app(name: str) -> Queue:
    """The Queue that ``module:attribute`` names; the working directory is importable.

    Raises AppLoadError if there is no such module or attribute, or it is no Queue. Whatever importing
    the module raises passes through untouched.
    """
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise AppLoadError(_misspelt(name))
    module = _import(module_name)
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AppLoadError(
                f"module {module_name!r} has no {attribute!r}{_suggestion(module, attribute)}"
            ) from None
    if not isinstance(found, Queue):
        raise AppLoadError(
            f"{name!r} is a {type(found).__qualname__}, not a Queue{_suggestion(module, attribute)}"
        )
    return found


def manifest_of(queue: Queue, app: str) -> AppManifest:
    """What the supervisor is told of an app that was just loaded."""
    policies = {
        name: dataclasses.replace(task.policy, notify=queue.callbacks.chain(name, task).hears_failures)
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
        periodic=tuple(dataclasses.replace(entry, app=app) for entry in queue._periodic.values()),
        limiter=queue.settings.limiter,
        breaker=queue.settings.breaker,
        threads=tuple(thread.name for thread in threading.enumerate() if thread not in ours),
    )


def _import(module_name: str) -> ModuleType:
    if (here := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        # Only if it is the app that is missing: a module that the app misses is the app's own error.
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        raise AppLoadError(
            f"there is no module {exc.name!r} in {here} or among the installed packages; "
            "start in the directory that holds it"
        ) from None
    except (TypeError, ValueError) as exc:
        if module_name.startswith(".") or ".." in module_name:
            raise AppLoadError(f"{module_name!r} is no name of a module: {exc}") from None
        raise


def _misspelt(name: str) -> str:
    module = name.partition(":")[0].removesuffix(".py").replace("/", ".").strip(".")
    example = f"{module or 'myapp'}:queue"
    return f"an app is named module:attribute, such as {example!r}; got {name!r}"


def _suggestion(module: ModuleType, attribute: str) -> str:
    """The queues that are there, or names that are close."""
    queues = [name for name, thing in vars(module).items() if isinstance(thing, Queue)]
    if queues:
        return f"; its queues are {', '.join(f'{module.__name__}:{name}' for name in queues)}"
    close = difflib.get_close_matches(attribute, list(vars(module)), n=3)
    return f"; there is {', '.join(close)}" if close else "; it has no Queue"


def _own_modules() -> tuple[str, ...]:
    """Modules that are neither the library's, nor installed packages', nor ours: the app and its own."""
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
