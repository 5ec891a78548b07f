"""Says where an import of the app is that a command waits for."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

#: Seconds after which it is said. A worker, which does not import the app itself, has the same.
SLOW_AFTER = 5.0


@contextmanager
def named_if_slow(app: str) -> Iterator[None]:
    """A block that imports the app, in this thread."""
    importing, done = threading.get_ident(), threading.Event()

    def watch() -> None:
        if not done.wait(SLOW_AFTER):
            where = _place(importing)
            click.echo(f"importing {app!r} takes longer than {SLOW_AFTER:g} s{where}", err=True)

    # A daemon: if the import ends the process, this does not keep it.
    watcher = threading.Thread(target=watch, name="taskito-slow-import", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _place(thread_id: int) -> str:
    """The line of a module that a thread is at."""
    frame = sys._current_frames().get(thread_id)
    for file, line in reversed(
        [(one.filename, one.lineno) for one in traceback.extract_stack(frame) if one.name == "<module>"]
    ):
        return f": it is at line {line} of {file}"
    return ""
