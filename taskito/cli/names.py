"""Names on the command line: the last part will do, and one that nobody knows is not taken in silence."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import click

from taskito_core.errors import did_you_mean
from taskito_core.storage_worker import WorkerStatus

if TYPE_CHECKING:
    from taskito.client.queue import Queue

#: How many ids one sentence names.
MOST_NAMED = 5


def full_name(what: str, name: str, known: Collection[str], otherwise: str = "") -> str:
    """The known name that is meant by ``name``: itself, or the only one whose last part it is.

    Raises UsageError; ``otherwise`` says how to have ``name`` taken all the same.
    """
    if name in known:
        return name
    ends = sorted(one for one in known if one.rpartition(".")[2] == name)
    if len(ends) > 1:
        raise click.UsageError(f"{name!r} may be {' or '.join(ends)}: say which")
    if not ends:
        hint = did_you_mean(name, known) or f"; there are {', '.join(sorted(known)) or 'none'}"
        raise click.UsageError(f"nobody knows a {what} {name!r}{hint}{otherwise and f' ({otherwise})'}")
    return ends[0]


def full_id(queue: Queue, beginning: str) -> str:
    """The id of the only job that begins with this; unchanged if there is none. Raises UsageError."""
    found = queue.storage.ids_beginning(beginning, MOST_NAMED + 1) if beginning else []
    if len(found) < 2 or beginning in found:
        return beginning if beginning in found or not found else found[0]
    more = " and more" if len(found) > MOST_NAMED else ""
    raise click.UsageError(f"{beginning!r} may be {' or '.join(found[:MOST_NAMED])}{more}: say which")


def warn_of_queue(queue: Queue, name: str) -> None:
    """Say that nobody uses this queue. Not an error: a worker for it, or jobs, may come later."""
    known = {task.policy.queue for task in queue.tasks.values()} | set(queue.stats_by_queue())
    known.update(*(worker.queues for worker in queue.workers() if worker.status is WorkerStatus.ALIVE))
    if name not in known:
        hint = did_you_mean(name, known)
        click.echo(f"Warning: no task, job or live worker uses a queue {name!r}{hint}", err=True)
