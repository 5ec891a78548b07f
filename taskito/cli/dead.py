"""``taskito dead``: the dead letter."""

from __future__ import annotations

from json import dumps

import click

from taskito.cli.exits import INTERNAL, Refusal
from taskito.cli.names import full_id
from taskito.cli.options.selection import Duration
from taskito.cli.options.target import app_option, json_option, open_queue
from taskito.cli.record import print_record
from taskito.cli.table import aligned
from taskito.client.results.shown import show_letter
from taskito.config.text import moment, show_moments
from taskito_core.errors import TaskitoError


@click.group()
def dead() -> None:
    """Look at jobs that were given up, run them again, or delete them.

    A job is given up when its retries are used up, or when an error rules out trying again. Its letter stays
    until it is run again, deleted or purged,
    or for 30 days: see taskito retention.
    """


@dead.command("list")
@app_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Per page.")
@click.option("--cursor", help="Go on after the page that printed this.")
@json_option
def list_(app: str | None, limit: int, cursor: str | None, json: bool) -> None:
    """List dead letters, newest first, each with its reason."""
    with open_queue(app) as queue:
        page = queue.dead_letters(limit, cursor)
        found = [show_letter(queue, letter) for letter in page] if json else []
    if json:
        click.echo(dumps({"letters": found, "cursor": page.cursor}, indent=2))
        return
    rows = [("job", "task", "queue", "failed", "reason", "error")]
    rows += [
        (one.job_id, one.task_name, one.queue, moment(one.failed_at), str(one.reason), one.error)
        for one in page
    ]
    for line in aligned(rows):
        click.echo(line)
    if page.cursor is not None:
        click.echo(f"more: --cursor {page.cursor}", err=True)


@dead.command()
@app_option
@click.argument("job_id")
@json_option
def show(app: str | None, job_id: str, json: bool) -> None:
    """Show one dead letter: why the job was given up, its arguments, and its attempts' errors.

    Long values are cut short, and what has a name like password or token is masked.
    """
    with open_queue(app) as queue:
        job_id = full_id(queue, job_id)
        letters = queue.storage.letters([job_id])
        replays = [record.new_id for record in queue.replay_history(job_id)]
        if not letters:
            again = f": it was run again, as job {replays[-1]}" if replays else ""
            raise Refusal(f"job {job_id!r} is not in the dead letter{again}", INTERNAL)
        errors = [show_moments(error._asdict()) for error in queue.job_errors(job_id)]
        found = show_letter(queue, letters[0]) | {"replays": replays, "errors": errors}
    print_record(found, json)


@dead.command()
@app_option
@click.argument("job_ids", nargs=-1, required=True)
@json_option
def retry(app: str | None, job_ids: tuple[str, ...], json: bool) -> None:
    """Run dead jobs again, each as a new job; prints the new ids."""
    made: dict[str, str] = {}
    with open_queue(app) as queue:
        for job_id in job_ids:
            try:
                made[job_id] = queue.retry_dead(full_id(queue, job_id)).id
            except TaskitoError as exc:
                click.echo(f"{job_id}: {exc}", err=True)
    if json:
        click.echo(dumps(made))
    else:
        for new_id in made.values():
            click.echo(new_id)
    if len(made) < len(job_ids):
        raise click.exceptions.Exit(INTERNAL)


@dead.command()
@app_option
@click.argument("job_ids", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted; change nothing.")
@json_option
def delete(app: str | None, job_ids: tuple[str, ...], dry_run: bool, json: bool) -> None:
    """Delete dead jobs with their letters, errors and logs."""
    with open_queue(app) as queue:
        job_ids = tuple(full_id(queue, job_id) for job_id in job_ids)
        there = [letter.job_id for letter in queue.storage.letters(job_ids)]
        deleted = there if dry_run else [job_id for job_id in there if queue.delete_dead(job_id)]
    if json:
        click.echo(dumps({"deleted": deleted, "dry_run": dry_run}))
    else:
        for job_id in deleted:
            click.echo(job_id)
    for job_id in sorted(set(job_ids).difference(deleted)):
        click.echo(f"{job_id}: is not in the dead letter", err=True)
    if len(deleted) < len(set(job_ids)):
        raise click.exceptions.Exit(INTERNAL)


@dead.command()
@app_option
@click.option("--older-than", type=Duration(), required=True, help="Died longer ago than: 90, 15m, 2h, 7d.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def purge(app: str | None, older_than: float, yes: bool, json: bool) -> None:
    """Delete every dead job that is older than this."""
    with open_queue(app) as queue:
        if not yes:
            click.confirm(f"delete every dead job older than {older_than:g} s?", abort=True, err=True)
        count = queue.purge_dead(older_than)
    click.echo(dumps({"deleted": count}) if json else f"{count} dead jobs deleted")
