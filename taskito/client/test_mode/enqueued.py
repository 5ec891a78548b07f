"""The jobs that were enqueued in ``test_mode``, and what an assertion asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from taskito.client.options import job_options
from taskito.client.options.job_options import JobOptions, call_arguments

#: Jobs that the message of a failed assertion shows.
MOST_SHOWN = 20


class EnqueuedJob(NamedTuple):
    """One job that was enqueued inside ``test_mode``."""

    id: str
    task_name: str
    args: tuple[Any, ...]  #: as the task gets them
    kwargs: dict[str, Any]
    options: dict[str, Any]  #: its queue, and every JobOptions key that it was given

    def __str__(self) -> str:
        return f"{_call(self.task_name, self.args, self.kwargs)} with {_words(self.options)}"


EnqueuedJob.__module__ = "taskito"


class Wanted(NamedTuple):
    """What an assertion is about."""

    task_name: str | None
    args: tuple[Any, ...] | None
    kwargs: Mapping[str, Any] | None
    said: Mapping[str, Any]
    fields: Mapping[str, Any]  #: ``said`` as fields of NewJob

    @classmethod
    def read(
        cls,
        where: str,
        task_name: str | None,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        said: JobOptions,
    ) -> Wanted:
        checked, named = call_arguments(() if args is None else args, kwargs)
        return cls(
            None if task_name is None else job_options.name("task", task_name),
            None if args is None else tuple(checked),
            None if kwargs is None else named,
            said,
            job_options.job_fields(where, said),
        )

    def is_call_of(self, job: EnqueuedJob) -> bool:
        return (
            self.task_name in (None, job.task_name)
            and self.args in (None, job.args)
            and self.kwargs in (None, job.kwargs)
        )

    def __str__(self) -> str:
        what = "a job" if self.task_name is None else f"a job of task {self.task_name!r}"
        said = [] if self.args is None else [f"args {self.args!r}"]
        said += [] if self.kwargs is None else [f"kwargs {dict(self.kwargs)!r}"]
        said += [_words(self.said)] if self.said else []
        return f"{what} with {' and '.join(said)}" if said else what


def _call(task_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    words = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{task_name}({', '.join(words)})"


def _words(said: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in said.items())


def listed(jobs: Sequence[EnqueuedJob]) -> str:
    """What was enqueued, a line each; empty for nothing."""
    if not jobs:
        return ""
    lines = [f"  {job!s:.300}" for job in jobs[:MOST_SHOWN]]
    if len(jobs) > MOST_SHOWN:
        lines.append(f"  and {len(jobs) - MOST_SHOWN} more")
    return "\n".join(["there was:", *lines])
