"""What commands do to jobs that are named or selected: cancel, retry, delete."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from json import dumps
from typing import TYPE_CHECKING, Any, Protocol

import click

from taskito.cli.exits import INTERNAL
from taskito_core.errors import TaskitoError
from taskito_core.job import JobStatus

if TYPE_CHECKING:
    from taskito.client.queue import Queue
    from taskito.client.results.job_result import JobResult

#: Jobs that are asked about at once.
_PAGE = 1000


class Action(Protocol):
    """One thing that can be done to jobs."""

    verb: str

    def act(self, job: JobResult[Any]) -> str | None:
        """Do it; the id that is printed, None: it could not be done any more. Raises TaskitoError."""
        ...

    def unfit(self, job_ids: Sequence[str]) -> Collection[str]:
        """Those of these jobs that it cannot be done to."""
        ...

    def reason(self, job: JobResult[Any]) -> str:
        """Why it cannot be done to an unfit job."""
        ...


class Cancel:
    verb = "cancel"

    def __init__(self, queue: Queue, force: bool) -> None:
        self._queue = queue
        self._force = force

    def act(self, job: JobResult[Any]) -> str | None:
        return job.id if job.cancel(force=self._force) else None

    def unfit(self, job_ids: Sequence[str]) -> Collection[str]:
        return {job.id for job in self._queue.storage.get(job_ids) if job.status.finished}

    def reason(self, job: JobResult[Any]) -> str:
        return f"it is {job.status} already"


class Retry:
    verb = "retry"

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def act(self, job: JobResult[Any]) -> str | None:
        return self._queue.retry_dead(job.id).id

    def unfit(self, job_ids: Sequence[str]) -> Collection[str]:
        return set(job_ids) - {letter.job_id for letter in self._queue.storage.letters(job_ids)}

    def reason(self, job: JobResult[Any]) -> str:
        if job.status is not JobStatus.DEAD:
            return f"it is {job.status}, and only what is dead can be retried"
        if replays := job.replays:
            return f"it was run again, as job {replays[-1]}"
        return "it is not in the dead letter any more"


class Delete:
    verb = "delete"

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def act(self, job: JobResult[Any]) -> str | None:
        return job.id if self._queue.storage.delete([job.id]) else None

    def unfit(self, job_ids: Sequence[str]) -> Collection[str]:
        storage = self._queue.storage
        edges = storage.edges(job_ids)
        asked = {job.id: job for job in storage.get([*job_ids, *(edge.job_id for edge in edges)])}
        live = {job.id for job in asked.values() if not job.status.finished}
        return live.intersection(job_ids) | {edge.parent_id for edge in edges if edge.job_id in live}

    def reason(self, job: JobResult[Any]) -> str:
        status = job.status
        return "a live job depends on it" if status.finished else f"it is {status}"


def do(action: Action, named: Sequence[JobResult[Any]], selected: Sequence[JobResult[Any]], *, ask: bool,
    dry_run: bool, json: bool) -> None:  # fmt: skip
    """Do it to jobs that were named, or to those of the selected ones that it can be done to.

    Exits with INTERNAL if it could not be done to all.
    """
    jobs = [*named, *selected]
    ids = [job.id for job in jobs]
    pages = (ids[at : at + _PAGE] for at in range(0, len(ids), _PAGE))
    unfit = set().union(*map(action.unfit, pages)).intersection(ids)
    refused = _Refused()
    for job in named:
        if job.id in unfit:
            refused.add(job, action.reason(job))
    if left_out := [job for job in selected if job.id in unfit]:
        first = left_out[0]
        others = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        click.echo(f"left out: {first.id} ({action.reason(first)}){others}", err=True)
    jobs = [job for job in jobs if job.id not in unfit]
    if ask and jobs and not dry_run:
        click.confirm(f"{action.verb} {_jobs(len(jobs))}?", abort=True, err=True)
    done = {job.id: job.id for job in jobs} if dry_run else _each(action, jobs, refused)
    _report(action, done, refused.ids, dry_run, json)
    if refused.ids:
        raise click.exceptions.Exit(INTERNAL)


class _Refused:
    """The jobs that it could not be done to; says why, one by one."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def add(self, job: JobResult[Any], why: object) -> None:
        self.ids.append(job.id)
        click.echo(f"{job.id}: {why}", err=True)


def _each(action: Action, jobs: Sequence[JobResult[Any]], refused: _Refused) -> dict[str, str]:
    """The ids of the jobs that it was done to, each with the one that is printed."""
    done: dict[str, str] = {}
    for job in jobs:
        try:
            if (printed := action.act(job)) is not None:
                done[job.id] = printed
            else:
                refused.add(job, f"it is {job.refresh().status} by now")
        except TaskitoError as exc:
            refused.add(job, exc)
    return done


def _report(action: Action, done: dict[str, str], refused: list[str], dry_run: bool, json: bool) -> None:
    verb = f"would {action.verb}" if dry_run else action.verb
    if json:
        made = {"new_ids": done} if isinstance(action, Retry) and not dry_run else {}
        click.echo(dumps({"action": verb, "done": list(done), "refused": refused} | made))
        return
    for printed in done.values():
        click.echo(printed)
    left = f", {len(refused)} could not be" if refused else ""
    click.echo(f"{verb}: {_jobs(len(done))}{left}", err=True)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
