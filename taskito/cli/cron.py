"""``taskito cron``: periodic tasks."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Any

import click

from taskito.cli.names import full_name
from taskito.cli.options import completion
from taskito.cli.options.target import app_option, json_option, open_queue
from taskito.cli.table import aligned
from taskito.config.text import moment, show_moments
from taskito_core.storage_worker import PeriodicState

if TYPE_CHECKING:
    from taskito.client.queue import Queue


@click.group()
def cron() -> None:
    """List periodic tasks, and pause, resume or run them.

    Periodic tasks are declared in the app; workers write them into the store when they start, and
    whichever worker comes first enqueues the job of each slot. The last part of a name will do.
    """


@cron.command("list")
@app_option
@json_option
def list_(app: str | None, json: bool) -> None:
    """List the periodic tasks that workers have registered."""
    with open_queue(app) as queue:
        states = queue.periodic_tasks()
    if json:
        click.echo(dumps([_plain(state) for state in states], indent=2))
        return
    rows = [("name", "cron", "time zone", "next run", "last run", "", "app")]
    for state in states:
        entry = state.entry
        next_run = moment(state.next_run) if state.enabled else ""
        paused = "" if state.enabled else "paused"
        rows.append(
            (entry.name, entry.cron, entry.timezone, next_run, moment(state.last_run), paused, entry.app)
        )
    for line in aligned(rows):
        click.echo(line)


@cron.command("next")
@app_option
@click.argument("name", shell_complete=completion.periodic)
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
@json_option
def next_(app: str | None, name: str, count: int, json: bool) -> None:
    """Print the next moments at which a periodic task fires, in its time zone."""
    from taskito.cron.schedule import Schedule

    with open_queue(app) as queue:
        name = _full_name(queue, name)
        [entry] = [state.entry for state in queue.periodic_tasks() if state.entry.name == name]
        now = queue.storage.now()
    moments = Schedule(entry.cron, entry.timezone).describe_next(now, count)
    for line in [dumps(moments)] if json else moments:
        click.echo(line)


@cron.command()
@app_option
@click.argument("name", shell_complete=completion.periodic)
def run(app: str | None, name: str) -> None:
    """Enqueue a periodic task now, beside its schedule; prints the job's id."""
    with open_queue(app) as queue:
        click.echo(queue.run_periodic(_full_name(queue, name)).id)


@cron.command()
@app_option
@click.argument("name", shell_complete=completion.periodic)
def pause(app: str | None, name: str) -> None:
    """Let a periodic task fire no more, until it is resumed. Survives restarts."""
    with open_queue(app) as queue:
        queue.pause_periodic(name := _full_name(queue, name))
    click.echo(f"{name}: paused")


@cron.command()
@app_option
@click.argument("name", shell_complete=completion.periodic)
def resume(app: str | None, name: str) -> None:
    """Let a periodic task fire again, from its next slot on."""
    with open_queue(app) as queue:
        queue.resume_periodic(name := _full_name(queue, name))
    click.echo(f"{name}: resumed")


def _full_name(queue: Queue, name: str) -> str:
    """The periodic task that is meant, of those that workers have registered."""
    return full_name("periodic task", name, [state.entry.name for state in queue.periodic_tasks()])


def _plain(state: PeriodicState) -> dict[str, Any]:
    entry = state.entry
    return show_moments(
        {
            "name": entry.name,
            "app": entry.app,
            "task_name": entry.task_name,
            "cron": entry.cron,
            "timezone": entry.timezone,
            "catch_up": entry.catch_up,
            "queue": entry.queue,
            "enabled": state.enabled,
            "next_run": state.next_run,
            "last_run": state.last_run,
        }
    )
