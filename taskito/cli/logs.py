"""``taskito logs`` and ``taskito explain``: what jobs said, and why one does not run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from json import dumps, loads

import click

from taskito.cli.names import full_id
from taskito.cli.options import completion
from taskito.cli.options.selection import Duration
from taskito.cli.options.target import app_option, json_option, open_queue
from taskito.config.text import moment, printable, show_moments
from taskito.running_job.job_log import READABLE
from taskito_core.errors import not_found
from taskito_core.storage_worker import LogEntry


@click.command()
@app_option
@click.argument("job_id", required=False)
@click.option("--task", shell_complete=completion.tasks, help="Of every job of this task.")
@click.option("--level", type=click.Choice(READABLE), help="Of this level only.")
@click.option("--since", type=Duration(), help="Of the last so long: 90, 15m, 2h, 7d.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most.")
@json_option
def logs(
    app: str | None,
    job_id: str | None,
    task: str | None,
    level: str | None,
    since: float | None,
    limit: int,
    json: bool,
) -> None:
    """Print what jobs logged with current_job.log(), oldest first.

    With JOB_ID what that job said, whole; without, what all jobs said, as the options choose.
    """
    if job_id is not None and (task or level or since is not None):
        raise click.UsageError("a job's log is printed whole: leave out --task, --level and --since")
    with open_queue(app) as queue:
        if job_id is not None:
            job_id = full_id(queue, job_id)
            entries = queue.task_logs(job_id)
            if not entries and queue.get_job(job_id) is None:
                raise not_found(job_id)
        else:
            after = None if since is None else datetime.now(UTC) - timedelta(seconds=since)
            entries = queue.query_logs(task_name=task, level=level, since=after, limit=limit)
    if json:
        click.echo(dumps([_plain(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        click.echo(printable(_line(entry)))


@click.command()
@app_option
@click.argument("job_id")
@json_option
def explain(app: str | None, job_id: str, json: bool) -> None:
    """Say why a job is not running: everything that stands in its way, as things are now.

    Its parents, its time, its key, its queue, its limits, and whether a worker that could run it is alive.
    """
    with open_queue(app) as queue:
        found = queue.explain(full_id(queue, job_id))
    click.echo(dumps(found.to_dict(), indent=2) if json else printable(str(found)))


def _line(entry: LogEntry) -> str:
    extra = f"  {entry.extra}" if entry.extra else ""
    return (
        f"{moment(entry.logged_at)} {entry.level:<8} {entry.task_name} {entry.job_id}  {entry.message}{extra}"
    )


def _plain(entry: LogEntry) -> dict[str, object]:
    return show_moments(entry._asdict()) | {"extra": loads(entry.extra) if entry.extra else None}
