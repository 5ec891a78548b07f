"""``taskito queues``: what is on each queue; pause and resume."""

from __future__ import annotations

from json import dumps

import click

from taskito.cli import completion
from taskito.cli.names import warn_of_queue
from taskito.cli.table import aligned
from taskito.cli.target import app_option, json_option, open_queue

COLUMNS = ("pending", "running", "failed", "dead")


@click.group()
def queues() -> None:
    """List queues, and stop or start claiming from them.

    A paused queue takes new jobs, and they wait. The pause is in the store: it holds for every worker,
    and survives restarts.
    """


@queues.command("list")
@app_option
@json_option
def list_(app: str | None, json: bool) -> None:
    """List every queue that has jobs or is paused."""
    with open_queue(app) as queue:
        stats, paused = queue.stats_by_queue(), queue.paused_queues()
    found = {
        name: {column: stats[name][column] if name in stats else 0 for column in COLUMNS}  # type: ignore[literal-required]
        | {"paused": name in paused}
        for name in sorted({*stats, *paused})
    }
    if json:
        click.echo(dumps(found, indent=2))
        return
    rows: list[tuple[object, ...]] = [("queue", "", *COLUMNS)]
    for name, row in found.items():
        rows.append((name, "paused" if row["paused"] else "", *(row[column] for column in COLUMNS)))
    for line in aligned(rows):
        click.echo(line)


@queues.command()
@app_option
@click.argument("names", nargs=-1, required=True, shell_complete=completion.queues)
@json_option
def pause(app: str | None, names: tuple[str, ...], json: bool) -> None:
    """Have no worker claim from these queues any more; running jobs go on. Survives restarts."""
    with open_queue(app) as queue:
        for name in names:
            warn_of_queue(queue, name)
        changed = {name: queue.pause(name) for name in names}
    _tell(changed, "paused", "was paused already", json)


@queues.command()
@app_option
@click.argument("names", nargs=-1, required=True, shell_complete=completion.queues)
@json_option
def resume(app: str | None, names: tuple[str, ...], json: bool) -> None:
    """Let workers claim from these queues again, at once."""
    with open_queue(app) as queue:
        changed = {name: queue.resume(name) for name in names}
    _tell(changed, "resumed", "was not paused", json)


def _tell(changed: dict[str, bool], done: str, not_needed: str, json: bool) -> None:
    if json:
        click.echo(dumps(changed))
        return
    for name, really in changed.items():
        click.echo(f"{name}: {done if really else not_needed}")
