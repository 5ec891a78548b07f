"""Names by which another process finds a function or a class again, and the way back.

A script that is run has its own module called ``__main__``; the worker that imports the same file
knows it by its real name. Everything here speaks of real names.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType


def module_name(name: str) -> str:
    """``name``, or for ``__main__`` the name under which a worker would import the same file.

    An interactive session has no file; it stays ``__main__``.
    """
    if name != "__main__":
        return name
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(file))[0] if file else "__main__"


def class_path(cls: type) -> str:
    """``module:Qualified.Name`` of a class. Raises LookupError, saying why, if that would not find it."""
    if "<locals>" in cls.__qualname__:
        raise LookupError("its class is defined inside a function, where no other process can find it")
    module = sys.modules.get(cls.__module__)
    if module is None or _walk(module, cls.__qualname__) is not cls:
        raise LookupError(f"its class is not to be found as {cls.__qualname__} in module {cls.__module__}")
    return f"{module_name(cls.__module__)}:{cls.__qualname__}"


def find_class(path: str) -> type:
    """The class that ``class_path`` named. Raises LookupError, saying why, if there is none.

    The path may have been written by an attacker, so looking runs next to nothing: a module that is
    not imported yet is imported only if its top package is, and if it is no part of the standard library
    (some of those act on import); attributes are read without descriptors or ``__getattr__``.
    """
    name, separator, qualname = path.partition(":")
    if not (name and separator and qualname):
        raise LookupError(f"{path!r} is not of the form module:Class")
    found = _walk(_module(name), qualname)
    if not isinstance(found, type):
        raise LookupError(f"module {name} has no class {qualname}")
    return found


def _module(name: str) -> ModuleType:
    if (known := sys.modules.get(name)) is not None:
        return known
    if name == module_name("__main__"):
        return sys.modules["__main__"]
    top = name.partition(".")[0]
    if top not in sys.modules or top in sys.stdlib_module_names or "__main__" in name.split("."):
        raise LookupError(f"module {name} is not imported here; import it in the app")
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise LookupError(f"module {name} cannot be imported: {exc}") from exc


def _walk(module: ModuleType, qualname: str) -> object:
    found: object = module
    for part in qualname.split("."):
        if not isinstance(found, ModuleType if found is module else type):
            return None
        found = vars(found).get(part)
    return found


def type_name(kind: type) -> str:
    """As a person would write it: without the module, if that is ``builtins``."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
