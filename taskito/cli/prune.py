"""``taskito prune`` and ``taskito retention``: what is deleted after its time, and when that is."""

from __future__ import annotations

from json import dumps

import click

from taskito.cli.options.selection import Duration
from taskito.cli.options.target import app_option, json_option, open_queue
from taskito.cli.table import aligned
from taskito.config.settings import UNSET
from taskito.worker.store.retention import span


@click.command()
@app_option
@click.option("--dry-run", is_flag=True, help="Print what would be deleted; change nothing.")
@json_option
def prune(app: str | None, dry_run: bool, json: bool) -> None:
    """Delete now what is kept no longer; every worker does it once a minute.

    That is what a job's result_ttl says, and for all others the store's retention.
    """
    with open_queue(app) as queue:
        pruned = queue.prune(dry_run=dry_run)
    if json:
        found = {"finished": pruned.finished, "dead": pruned.dead, "logs": pruned.logs, "dry_run": dry_run}
        click.echo(dumps(found))
        return
    click.echo(
        f"{pruned.finished} finished jobs, {pruned.dead} dead jobs and {pruned.logs} lines of job logs "
        f"{'would be ' if dry_run else ''}deleted"
    )


class Lifetime(Duration):
    """A duration, or ``forever``."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        never_ends = isinstance(value, str) and value.strip().lower() == "forever"
        return float("inf") if never_ends else super().convert(value, param, ctx)


@click.command()
@app_option
@click.option("--finished", type=Lifetime(), help="Jobs that completed or were cancelled: 7d, 12h, forever.")
@click.option("--dead", type=Lifetime(), help="Dead jobs with their letters.")
@click.option("--logs", type=Lifetime(), help="Lines of job logs.")
@click.option("--metrics", type=Lifetime(), help="What was measured.")
@json_option
def retention(
    app: str | None,
    finished: float | None,
    dead: float | None,
    logs: float | None,
    metrics: float | None,
    json: bool,
) -> None:
    """Show how long the store keeps what has ended, or change it.

    It holds for every worker of the store, from its next pruning on. A job's result_ttl beats it.
    """
    said = {"finished": finished, "dead": dead, "logs": logs, "metrics": metrics}
    with open_queue(app) as queue:
        if any(value is not None for value in said.values()):
            holds = queue.set_retention(**{k: UNSET if v is None else v for k, v in said.items()})
        else:
            holds = queue.retention()
    if json:
        click.echo(dumps(holds._asdict()))
        return
    for line in aligned([(name, span(value)) for name, value in holds._asdict().items()]):
        click.echo(line)
