"""The conditions of ``list_jobs``: as a caller gives them, and as a store is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, TypedDict

from taskito.client.options import job_options
from taskito_core.errors import ConfigError
from taskito_core.job import JobStatus
from taskito_core.storage_client import JobFilter

#: The states by which jobs are counted, and can be listed; ``failed`` ones are pending, and wait for a retry.
COUNTED = (*JobStatus, "failed")
_STATUS_OF = {word: JobStatus(word) for word in JobStatus} | {
    "completed": JobStatus.COMPLETE,
    "failed": JobStatus.PENDING,
}
#: Entries of one page of any list.
MOST_PER_PAGE = 1000


class JobQuery(TypedDict, total=False):
    """Conditions on jobs; a job is listed if all of them hold."""

    status: JobStatus | str | Iterable[JobStatus | str] | None  #: or ``failed``, as ``stats`` counts it
    queue: str | None
    task_name: str | None
    created_after: datetime | None  #: at that moment or later; datetimes must know their time zone
    created_before: datetime | None  #: earlier than that
    finished_after: datetime | None
    finished_before: datetime | None
    error: str | None  #: is part of the last error's text, in that case
    metadata: Mapping[str, str | int | float | bool | None] | None  #: has these values
    tag: str | None
    limit: int  #: jobs per page, from 1 to 1000; default 50
    cursor: str | None  #: of the page before


class PageRequest(NamedTuple):
    """One page of the jobs that match, as a store is asked for it."""

    where: JobFilter
    limit: int
    cursor: str | None


def read_query(query: JobQuery) -> PageRequest:
    """Raises TypeError for a condition that does not exist, ConfigError for one that makes no sense."""
    job_options.refuse_unknown("list_jobs()", query, JobQuery.__annotations__)
    words = _words(query.get("status"))
    where = JobFilter(
        statuses=tuple(map(_STATUS_OF.__getitem__, words)),
        failed="failed" in words and JobStatus.PENDING not in words,
        queue=query.get("queue"),
        task_name=query.get("task_name"),
        created_after=job_options.moment("created_after", query.get("created_after")),
        created_before=job_options.moment("created_before", query.get("created_before")),
        finished_after=job_options.moment("finished_after", query.get("finished_after")),
        finished_before=job_options.moment("finished_before", query.get("finished_before")),
        error=query.get("error"),
        metadata=dict(query.get("metadata") or {}),
        tag=query.get("tag"),
    )
    return PageRequest(where, page_size(query.get("limit", 50)), query.get("cursor"))


def page_size(limit: object) -> int:
    """A checked ``limit``. Raises ConfigError."""
    if (found := job_options.whole("limit", limit, 1)) > MOST_PER_PAGE:
        raise ConfigError(f"limit must be at most {MOST_PER_PAGE}, got {found}; use the cursor for more")
    return found


def _words(given: JobStatus | str | Iterable[JobStatus | str] | None) -> list[JobStatus | str]:
    words = [given] if isinstance(given, str) else given
    try:
        found = [] if words is None else list(words)
        if all(word in _STATUS_OF for word in found):
            return found
    except TypeError:
        pass
    raise ConfigError(f"status must be one or more of {', '.join(COUNTED)}, got {given!r}")
