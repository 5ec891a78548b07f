"""``taskito jobs``: list, show, cancel, retry and delete jobs."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from typing import TYPE_CHECKING, Any

import click

from taskito.cli.action import Action, Cancel, Delete, Retry, do
from taskito.cli.exits import INTERNAL, Refusal
from taskito.cli.names import full_id
from taskito.cli.options.selection import Selection, act_options, filter_options
from taskito.cli.options.target import app_option, json_option, open_queue
from taskito.cli.record import print_record
from taskito.cli.table import aligned
from taskito.config.text import moment, show_moments
from taskito_core.job import FINISHED, JobStatus

if TYPE_CHECKING:
    from taskito.client.queue import Queue
    from taskito.client.results.job_result import JobResult


@click.group()
def jobs() -> None:
    """List, show, cancel, retry and delete jobs.

    Those that change something take ids, or the options that select jobs, and then ask first.
    """


@jobs.command("list")
@app_option
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Jobs per page.")
@click.option("--cursor", help="Go on after the page that printed this.")
@click.option("--quiet", "-q", is_flag=True, help="Print ids only.")
@json_option
def list_(
    app: str | None, selection: Selection, limit: int, cursor: str | None, quiet: bool, json: bool
) -> None:
    """List jobs, newest first.

    \b
    taskito jobs list --status dead --task myapp.send
    taskito jobs cancel $(taskito jobs list -q --queue mail --status pending)
    """
    with open_queue(app) as queue:
        page = queue.list_jobs(**selection.query(limit, cursor))
        found = [job.to_dict() for job in page]
    if json:
        click.echo(dumps({"jobs": found, "cursor": page.cursor}, indent=2))
        return
    if quiet:
        for job in found:
            click.echo(job["id"])
        return
    rows = [("id", "status", "task", "queue", "created", "error")]
    rows += [
        (
            job["id"],
            job["status"],
            job["task_name"],
            job["queue"],
            moment(job["created_at"]),
            job["error"] or "",
        )
        for job in found
    ]
    for line in aligned(rows):
        click.echo(line)
    if page.cursor is not None:
        click.echo(f"more: --cursor {page.cursor}", err=True)


@jobs.command()
@app_option
@click.argument("job_id")
@json_option
def show(app: str | None, job_id: str, json: bool) -> None:
    """Show one job: its state, arguments and result, its attempts' errors, and what it waits for.

    Long values are cut short, and what has a name like password or token is masked.
    """
    with open_queue(app) as queue:
        job = _job(queue, job_id)
        found = job.to_dict() | {
            "dependencies": job.dependencies,
            "dependents": job.dependents,
            "replay_of": job.replay_of,
            "replays": job.replays,
            "errors": [show_moments(error._asdict()) for error in job.errors],
        }
    print_record(found, json)


@jobs.command()
@app_option
@click.argument("job_ids", nargs=-1)
@filter_options
@act_options
@click.option("--force", is_flag=True, help="Break into running jobs instead of asking them.")
@json_option
def cancel(
    app: str | None,
    job_ids: tuple[str, ...],
    selection: Selection,
    dry_run: bool,
    yes: bool,
    force: bool,
    json: bool,
) -> None:
    """Cancel pending jobs, and ask running ones to stop."""
    with open_queue(app) as queue:
        selection = selection.within(JobStatus.PENDING, JobStatus.RUNNING)
        _act(Cancel(queue, force), queue, job_ids, selection, dry_run, yes, json)


@jobs.command()
@app_option
@click.argument("job_ids", nargs=-1)
@filter_options
@act_options
@json_option
def retry(
    app: str | None, job_ids: tuple[str, ...], selection: Selection, dry_run: bool, yes: bool, json: bool
) -> None:
    """Run dead jobs again, as new jobs; prints the new ids. Their dead letters go."""
    with open_queue(app) as queue:
        selection = selection.within(JobStatus.DEAD)
        _act(Retry(queue), queue, job_ids, selection, dry_run, yes, json)


@jobs.command()
@app_option
@click.argument("job_ids", nargs=-1)
@filter_options
@act_options
@json_option
def delete(
    app: str | None, job_ids: tuple[str, ...], selection: Selection, dry_run: bool, yes: bool, json: bool
) -> None:
    """Delete finished jobs and all that belongs to them: results, errors, logs, dead letters."""
    with open_queue(app) as queue:
        selection = selection.within(*sorted(FINISHED))
        _act(Delete(queue), queue, job_ids, selection, dry_run, yes, json)


def _act(
    action: Action,
    queue: Queue,
    job_ids: Sequence[str],
    selection: Selection,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Do something to jobs given by id, or to selected ones once the user has agreed."""
    if job_ids and selection.given:
        raise click.UsageError("give ids or options that select jobs, not both")
    if not job_ids and not selection.given:
        raise click.UsageError(f"say which jobs to {action.verb}: ids, or options such as --queue or --task")
    named = [_job(queue, job_id) for job_id in dict.fromkeys(job_ids)]
    selected = [] if named else list(selection.jobs(queue))
    do(action, named, selected, ask=not named and not yes, dry_run=dry_run, json=json)


def _job(queue: Queue, job_id: str) -> JobResult[Any]:
    job = queue.get_job(full_id(queue, job_id))
    if job is None:
        raise Refusal(f"there is no job {job_id!r}: it never existed, or was pruned", INTERNAL)
    return job
