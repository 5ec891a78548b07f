"""Which store a command talks to: the one an app names, or the one the settings name."""

from __future__ import annotations

import dataclasses
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from taskito.cli.exits import APP
from taskito.config.settings import Settings, resolve
from taskito_core.errors import ConfigError, StorageUnavailable
from taskito_core.redact import mask_text

if TYPE_CHECKING:
    from taskito.client.queue import Queue
    from taskito_core.plugin_manager import Plugins
    from taskito_core.storage import Storage

F = TypeVar("F", bound=Callable[..., Any])
#: Seconds after which an import of the app that goes on is named; a worker does so too.
SLOW_AFTER = 5.0


class Target(NamedTuple):
    storage: Storage
    location: str  #: as people may see it
    plugins: Plugins


def app_option(function: F) -> F:
    """``--app module:attribute``, the same for every command."""
    return click.option(
        "--app",
        "-A",
        envvar="TASKITO_APP",
        metavar="MODULE:QUEUE",
        help="Where the Queue is, such as myapp:queue. The current directory is importable.",
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", is_flag=True, help="Print JSON instead of text.")(function)


@contextmanager
def _named_if_slow(app: str) -> Iterator[None]:
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


def import_app(app: str) -> Queue:
    """The app's Queue. An error inside the app is shown once, as Python shows it, and exits with 3.

    Raises AppLoadError for a name that leads nowhere.
    """
    from taskito.client.load_app import AppLoadError, load_app
    from taskito.worker.child.failures import place_in_app

    try:
        with _named_if_slow(app):
            return load_app(app)
    except AppLoadError:
        raise
    except ConfigError as exc:
        raise AppLoadError(f"cannot load {app!r}: {exc}{place_in_app(exc)}") from exc
    except (Exception, SystemExit) as exc:
        lines = traceback.format_exception(exc.with_traceback(_inside_app(exc)))
        click.echo(mask_text("".join(lines)), err=True, nl=False)
        click.echo(f"Error: cannot load {app!r}: importing it failed as shown above", err=True)
        raise click.exceptions.Exit(APP) from None


def _inside_app(exc: BaseException) -> Any:
    """The traceback from the app's first frame on; None if nothing of the app ran, as in a SyntaxError."""
    ours = {__file__, sys.modules["taskito.client.load_app"].__file__}
    frame = exc.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if name not in ours and "importlib" not in name:
            return frame
        frame = frame.tb_next
    return None


@contextmanager
def open_target(app: str | None) -> Iterator[Target]:
    """The store of an app, or without one of the environment and pyproject.toml. Never migrates by itself."""
    from taskito.client.backends import load_plugins, normalised

    if app is not None:
        queue = import_app(app)
        settings, loaded = queue.settings, queue.plugins
    else:
        settings = resolve({})
        loaded = load_plugins(settings)
    wanted = dataclasses.replace(normalised(loaded, settings), auto_migrate=False)
    storage = loaded.open_storage(wanted)
    try:
        with _said_where(settings):
            yield Target(storage, loaded.describe(wanted), loaded)
    finally:
        storage.close()


@contextmanager
def open_queue(app: str | None, *, may_create: bool = False) -> Iterator[Queue]:
    """The queue of an app, or without one of the environment and pyproject.toml.

    It migrates nothing, because a command that only reads must not create a database; ``may_create``: as
    the settings say.
    """
    from taskito.client.queue import Queue

    queue = Queue() if app is None else import_app(app)
    if not may_create:
        queue.configured.migrate_nothing()
    try:
        with _said_where(queue.settings):
            yield queue
    finally:
        queue.close()


@contextmanager
def _said_where(settings: Settings) -> Iterator[None]:
    """Have an error about the store itself say where its address comes from: there may be two such places."""
    try:
        yield
    except (StorageUnavailable, ConfigError) as exc:
        about_store = isinstance(exc, StorageUnavailable) or settings.storage.db_path in str(exc)
        if about_store:
            place = settings.place_of("db_path" if settings.db_url is None else "db_url")
            exc.args = (f"{exc}{place}",)
        raise
