"""``taskito wait``: return when jobs have ended, and show how far they are meanwhile."""

from __future__ import annotations

import functools
import re
import time
from json import dumps
from typing import TYPE_CHECKING

import click

from taskito.cli.exits import INTERNAL, Refusal
from taskito.cli.options import completion
from taskito.cli.options.selection import Duration
from taskito.cli.options.target import app_option, json_option, open_queue

if TYPE_CHECKING:
    from taskito.client.results.watched import Watched
    from taskito_core.storage import Storage

#: Milliseconds by which a store's clock and that of a producer may differ.
_CLOCKS_DIFFER = 24 * 3600 * 1000


@click.command()
@app_option
@click.option(
    "--queue",
    "queue_name",
    shell_complete=completion.queues,
    help="Until no job of this queue is pending or running.",
)
@click.option("--tag", help="Until no job with this tag is pending or running.")
@click.option("--group", "group_id", metavar="ID", help="Until all jobs of this group have ended.")
@click.option("--timeout", type=Duration(), help="Give up after this long: 90, 15m, 2h, 7d.")
@json_option
def wait(
    app: str | None,
    queue_name: str | None,
    tag: str | None,
    group_id: str | None,
    timeout: float | None,
    json: bool,
) -> None:
    """Wait until jobs have ended, those included that come meanwhile.

    How far they are is shown on standard error: a bar if rich is installed (taskito-core[rich]) and it is a
    terminal, else a line a second. The exit code is 1 if a job has failed, or did not end in time.

    \b
    taskito wait --queue mail --timeout 15m
    """
    if sum(one is not None for one in (queue_name, tag, group_id)) != 1:
        raise click.UsageError("say which jobs to wait for, by one of --queue, --tag and --group")
    from taskito.client.aio import Wait
    from taskito.client.results.progress import open_display
    from taskito.client.results.watched import WatchedQueue, follow

    began = time.monotonic()
    with open_queue(app) as queue:
        watched: Watched
        if queue_name is not None:
            watched = WatchedQueue(queue.storage, queue_name)
        elif tag is not None:
            watched = _tagged(queue.storage, tag)
        else:
            watched = _group(queue.storage, group_id or "")
        try:
            with open_display() as display:
                count = follow(watched, Wait(timeout), display.show)
        except TimeoutError as exc:
            raise Refusal(str(exc), INTERNAL) from None
    took = time.monotonic() - began
    if json:
        click.echo(dumps({"ended": count.ended, "failed": count.failed, "seconds": round(took, 3)}))
    else:
        click.echo(f"{count.ended} jobs ended, {count.failed} of them failed, in {took:.1f} s")
    if count.failed:
        raise click.exceptions.Exit(INTERNAL)


def _tagged(storage: Storage, tag: str) -> Watched:
    from taskito.client.results.watched import LIVE, WatchedJobs, ids_of
    from taskito_core.storage_client import JobFilter

    find = functools.partial(ids_of, storage, JobFilter(statuses=LIVE, tag=tag))
    return WatchedJobs(storage, find(), find)


def _group(storage: Storage, group_id: str) -> Watched:
    from taskito.client.results.group_result import GROUP_TAG
    from taskito.client.results.watched import LIVE, WatchedJobs, ids_of
    from taskito_core.storage_client import JobFilter

    tag, members = GROUP_TAG.format(id=group_id), []
    if re.fullmatch("[0-9a-f]{32}", group_id):
        # An id begins with the moment at which it was made.
        where = JobFilter(tag=tag, created_after=int(group_id[:12], 16) - _CLOCKS_DIFFER)
        members = ids_of(storage, where)
    if not members:
        raise Refusal(
            f"there is no group {group_id!r}, or its jobs were pruned: it is the id of what apply() gave",
            INTERNAL,
        )
    replays = functools.partial(ids_of, storage, JobFilter(statuses=LIVE, tag=tag))
    return WatchedJobs(storage, members, replays)
