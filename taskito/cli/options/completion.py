"""What a shell offers after TAB beside commands and options: names of the app's tasks and queues.

The app is imported for it, as a command would; if that fails, nothing is offered.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING

import click

from taskito.config.settings import project_table

if TYPE_CHECKING:
    from taskito.client.queue import Queue


def tasks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Tasks by their full names and by their functions' names."""
    names = [] if (queue := _queue(ctx)) is None else list(queue.tasks)
    return _beginning(incomplete, [*(name.rpartition(".")[2] for name in names), *names])


def queues(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The queues that the app's tasks use."""
    known = {"default"} if (queue := _queue(ctx)) is None else {"default", *_queues_of(queue)}
    *before, last = incomplete.split(",")
    return [",".join([*before, name]) for name in _beginning(last, known.difference(before))]


def periodic(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The periodic tasks that the app declares."""
    return [] if (queue := _queue(ctx)) is None else _beginning(incomplete, queue.periodic_entries)


def join_split_words(environ: MutableMapping[str, str]) -> None:
    """Undo that bash takes ``--app myapp:queue`` apart at the colon when it completes."""
    words = environ.get("COMP_WORDS")
    if words is None or not environ.get("_TASKITO_COMPLETE", "").startswith("bash"):
        return
    between = "\n" if "\n" in words else " "
    parts, cursor, joined = words.split(between), int(environ.get("COMP_CWORD", 0)), list[str]()
    position = 0
    while position < len(parts):
        if parts[position] == ":" and joined and 0 < position < len(parts) - 1:
            joined[-1] += f":{parts[position + 1]}"
            cursor -= 2 if cursor > position else 0
            position += 1
        else:
            joined.append(parts[position])
        position += 1
    environ["COMP_WORDS"], environ["COMP_CWORD"] = between.join(joined), str(cursor)


def _queue(ctx: click.Context) -> Queue | None:
    from taskito.client.load_app import load_app

    try:
        # A command's defaults from the file are not there yet: nothing is being run.
        app = ctx.params.get("app") or project_table(os.getcwd())[0].get("app")
        # What the app prints would be taken for names.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return load_app(str(app)) if app else None
    except (Exception, SystemExit):
        return None


def _queues_of(queue: Queue) -> Iterable[str]:
    return (task.policy.queue for task in queue.tasks.values())


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
