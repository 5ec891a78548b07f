"""Arguments that come from other jobs: a child reads its parents' results through its own storage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskito.running_job.group_shape import filled, leaves
from taskito.serialization.failed_member import FailedMember
from taskito.serialization.serializers import Inputs
from taskito_core.errors import TaskitoError
from taskito_core.job import Job, JobStatus

if TYPE_CHECKING:
    from taskito.worker.child.app import App

#: Jobs that one call reads.
_PAGE = 500


def arguments(app: App, job_id: str, inputs: Inputs, args: Sequence[Any]) -> list[Any]:
    """What a job is called with. Raises StorageUnavailable, SerializationError, TaskitoError."""
    if inputs.results_of is None:
        return list(args)
    ids = list(leaves(inputs.results_of))
    found = _read(app, ids)
    if any(one not in found or found[one].status is not JobStatus.COMPLETE for one in ids):
        # A parent that failed was run again: its replay stands for it.
        edges = [edge for edge in app.storage.edges([job_id]) if edge.job_id == job_id]
        replays = _read(app, [edge.parent_id for edge in edges if edge.replay_of is not None])
        found |= {edge.replay_of: replays[edge.parent_id] for edge in edges if edge.parent_id in replays}
    values = {one: _value(app, one, found.get(one), inputs.collect) for one in ids}
    return [filled(inputs.results_of, values), *args]


def for_each(function: Callable[..., object], *args: Any) -> list[object]:
    """One call per item of the last argument, and the list of what they return."""
    *first, items = args
    return [function(*first, *item) for item in items]


async def for_each_coroutine(function: Callable[..., Awaitable[object]], *args: Any) -> list[object]:
    """The same for a coroutine function: one call after the other."""
    *first, items = args
    return [await function(*first, *item) for item in items]


def _read(app: App, ids: Sequence[str]) -> dict[str | None, Job]:
    pages = (app.storage.get(ids[at : at + _PAGE]) for at in range(0, len(ids), _PAGE))
    return {job.id: job for page in pages for job in page}


def _value(app: App, job_id: str, job: Job | None, collect: bool) -> Any:
    if job is None:
        raise TaskitoError(f"the result of job {job_id} is needed and it is stored no more")
    if job.status is not JobStatus.COMPLETE:
        if not collect:  # The job was cancelled because of this one, and then replayed.
            raise TaskitoError(f"the result of job {job_id} is needed and it has none: it is {job.status}")
        return FailedMember(job.id, job.task_name, str(job.status), job.error)
    return None if job.result is None else app.serializer_of(job.task_name).loads(job.result)
