"""Files beside the app that are called like modules of the standard library: ``signal.py``, ``email.py``.

The app's folder comes first among the places where modules are looked for, as when Python runs a file in it.
Of two modules with one name a process can have only one: whatever imports it gets the one that came first.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from importlib.machinery import PathFinder

#: What taskito and the libraries it needs import late. The rest is there when the app is imported.
LATE = (
    *("asyncio", "calendar", "concurrent.futures", "ctypes", "decimal", "hmac", "importlib.metadata"),
    *("numbers", "platform", "queue", "secrets", "sysconfig", "tomllib", "uuid", "zoneinfo"),
)


def make_importable(folder: str) -> None:
    """Put ``folder`` in front, unless it is importable. No file in it is taken for what taskito needs."""
    if folder in sys.path or "" in sys.path:
        return
    if named_alike(folder):
        for name in LATE:
            importlib.import_module(name)
    sys.path.insert(0, folder)


def named_alike(folder: str) -> dict[str, str]:
    """The files in ``folder`` that Python finds under the name of a standard module, by that name."""
    try:
        names = {entry.name.partition(".")[0] for entry in os.scandir(folder)} & sys.stdlib_module_names
    except OSError:
        return {}
    found = {}
    for name in sorted(names.difference(sys.builtin_module_names)):
        spec = PathFinder.find_spec(name, [folder])
        # Without a loader it is a mere folder, to which Python prefers the module.
        if spec is not None and spec.loader is not None and spec.origin is not None:
            found[name] = spec.origin
    return found


def warnings_of(folder: str) -> list[str]:
    """A sentence for each such file."""
    return [_sentence(name, file) for name, file in named_alike(folder).items()]


def add_notes(exc: Exception, folder: str) -> None:
    """Name the files that may have to do with what importing the app raised, in the error itself."""
    frames = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(exc.__traceback__)}
    for name, file in named_alike(folder).items():
        if file in frames or re.search(rf"'{name}[.']", str(exc)):
            exc.add_note(_sentence(name, file))


def _sentence(name: str, file: str) -> str:
    return (
        f"{file} has the name of Python's own module {name!r}, and a process can import only one of the two; "
        "rename the file"
    )
