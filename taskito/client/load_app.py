"""Finding the app: from ``module:attribute`` to its Queue."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from types import ModuleType

from taskito.client.queue import Queue
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
