"""Finding the app: from ``module:attribute`` to its Queue."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from types import ModuleType

from taskito.client.queue import Queue
from taskito.config import import_guard
from taskito_core.errors import ConfigError


class AppLoadError(ConfigError):
    """``--app`` does not name a Queue; the app's own errors are never turned into this one."""


def load_app(name: str) -> Queue:
    """The Queue that ``module:attribute`` names, or that ``module:function()`` makes.

    The working directory is importable. Raises AppLoadError if there is no such module or attribute, or
    it is no Queue. Whatever importing the module or calling the function raises passes through untouched.
    """
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute or _is_path(module_name):
        raise AppLoadError(_misspelt(name))
    module = _import(module_name)
    found: object = module
    path = attribute.removesuffix("()")
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AppLoadError(
                f"module {module_name!r} has no {path!r}{_suggestion(module, path)}{_hidden_by(module)}"
            ) from None
    if path != attribute:
        found = _made_by(found, name)
    if not isinstance(found, Queue):
        raise AppLoadError(f"{name!r} is {_described(found, name)}{_suggestion(module, path)}")
    return found


def _import(module_name: str) -> ModuleType:
    here = os.getcwd()
    import_guard.make_importable(here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        # Only if it is the app that is missing: a module that the app misses is the app's own error.
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            import_guard.add_notes(exc, here)
            raise
        raise AppLoadError(
            f"there is no module {exc.name!r} in {here} or among the installed packages; "
            "start in the directory that holds it"
        ) from None
    except (TypeError, ValueError) as exc:
        if module_name.startswith(".") or ".." in module_name:
            raise AppLoadError(f"{module_name!r} is no name of a module: {exc}") from None
        raise
    except Exception as exc:
        import_guard.add_notes(exc, here)
        raise


def _hidden_by(module: ModuleType) -> str:
    """What is to be said if the app's file is not found because Python has a module of its name."""
    file = import_guard.named_alike(os.getcwd()).get(module.__name__)
    if file is None or file == module.__file__:
        return ""
    return f"; {file} is not imported, because Python has a module of its name: rename the file"


def _made_by(factory: object, name: str) -> object:
    """What the function returns that ``module:function()`` names; its own errors pass through."""
    if not callable(factory):
        raise AppLoadError(f"{name!r} calls a {type(factory).__qualname__}; leave the parentheses out")
    try:
        inspect.signature(factory).bind()
    except TypeError as exc:
        raise AppLoadError(f"{name!r} is called without arguments: {exc}") from None
    except ValueError:
        pass  # without a signature that could be checked
    return factory()


def _is_path(module_name: str) -> bool:
    return module_name.endswith(".py") or os.sep in module_name


def _misspelt(name: str) -> str:
    path, _, attribute = name.partition(":")
    folder, _, file = path.removesuffix(".py").rpartition(os.sep)
    folder = os.path.normpath(folder) if folder else ""
    example = f"{file.strip('.') or 'myapp'}:{attribute or 'queue'}"
    if folder.startswith((os.sep, "..")):
        example = f"{example}' in the directory '{folder}"
    elif folder not in ("", "."):
        example = f"{folder.replace(os.sep, '.')}.{example}"
    return f"an app is named module:attribute, such as '{example}'; got {name!r}"


def _described(found: object, name: str) -> str:
    if inspect.iscoroutine(found):
        found.close()
        return "a coroutine, not a Queue: a function that makes a queue cannot be async"
    if inspect.isfunction(found) and not name.endswith("()"):
        return f"a function, not a Queue; if it makes the queue, say {name + '()'!r}"
    return f"a {type(found).__qualname__}, not a Queue"


def _suggestion(module: ModuleType, attribute: str) -> str:
    """The queues that are there, or names that are close."""
    queues = [name for name, thing in vars(module).items() if isinstance(thing, Queue)]
    if queues:
        return f"; its queues are {', '.join(f'{module.__name__}:{name}' for name in queues)}"
    close = difflib.get_close_matches(attribute, list(vars(module)), n=3)
    return f"; there is {', '.join(close)}" if close else "; it has no Queue"
