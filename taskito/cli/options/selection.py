"""Which jobs a command is about: options that select them, the same for every command."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from taskito.cli.options import completion
from taskito.coerce import duration
from taskito_core.errors import ConfigError
from taskito_core.job import JobStatus

if TYPE_CHECKING:
    from taskito.client.job_query import JobQuery
    from taskito.client.queue import Queue
    from taskito.client.results.job_result import JobResult

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: 90, 15m, 2h, 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return duration(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is no duration such as 90, 15m, 2h or 7d", param, ctx)


@dataclass(frozen=True, slots=True)
class Selection:
    """What the options say; all of it must be true of a job."""

    statuses: tuple[str, ...] = ()  #: as ``list_jobs`` takes them
    queue: str | None = None
    task: str | None = None
    error: str | None = None
    tag: str | None = None
    since: float | None = None  #: seconds

    @property
    def given(self) -> bool:
        return self != Selection()

    def within(self, *statuses: JobStatus) -> Selection:
        """The same, of jobs in these states only. ConfigError if others were asked for."""
        pending = {"failed"} if JobStatus.PENDING in statuses else set()
        if strange := sorted(set(self.statuses) - set(statuses) - pending):
            raise ConfigError(
                f"this is for jobs that are {', '.join(statuses)}, not for {', '.join(strange)}"
            )
        return self if self.statuses or not self.given else replace(self, statuses=statuses)

    def query(self, limit: int, cursor: str | None) -> JobQuery:
        """The same as ``queue.list_jobs`` takes it."""
        created = None if self.since is None else datetime.now(UTC) - timedelta(seconds=self.since)
        return {
            "status": self.statuses or None,
            "queue": self.queue,
            "task_name": self.task,
            "error": self.error,
            "tag": self.tag,
            "created_after": created,
            "limit": limit,
            "cursor": cursor,
        }

    def jobs(self, queue: Queue) -> Iterator[JobResult[Any]]:
        """Every job that is selected, newest first."""
        cursor: str | None = None
        while True:
            page = queue.list_jobs(**self.query(1000, cursor))
            yield from page
            if (cursor := page.cursor) is None:
                return


def filter_options(function: F) -> F:
    """Options that select jobs; the command gets them as ``selection``."""

    @functools.wraps(function)
    def command(
        *args: Any,
        status: tuple[str, ...],
        queue_name: str | None,
        task: str | None,
        error: str | None,
        tag: str | None,
        since: float | None,
        **kwargs: Any,
    ) -> Any:
        return function(*args, selection=Selection(status, queue_name, task, error, tag, since), **kwargs)

    for option in (
        click.option("--since", type=Duration(), help="Enqueued in the last so long: 90, 15m, 2h, 7d."),
        click.option("--tag", help="With this tag."),
        click.option("--error", help="Whose last error contains this text."),
        click.option("--task", shell_complete=completion.tasks, help="Of this task."),
        click.option("--queue", "queue_name", shell_complete=completion.queues, help="On this queue."),
        click.option(
            "--status",
            multiple=True,
            type=click.Choice([*map(str, JobStatus), "failed"]),
            help="In this state; failed ones are pending, and wait for a retry.",
        ),
    ):
        command = option(command)
    return command  # type: ignore[return-value]


def act_options(function: F) -> F:
    """``--dry-run`` and ``--yes``, for commands that change what they select."""
    function = click.option("--yes", "-y", is_flag=True, help="Do not ask.")(function)
    return click.option("--dry-run", is_flag=True, help="Change nothing; print what it would.")(function)
