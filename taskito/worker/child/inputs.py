"""Arguments that come from other jobs: a child reads its parents' results through its own storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskito.running_job.group_shape import FailedMember, filled, leaves
from taskito.serialization.serializers import Inputs
from taskito_core.errors import TaskitoError
from taskito_core.job import Job, JobStatus

if TYPE_CHECKING:
    from taskito.worker.child.app import App

#: Jobs that one call reads.
_PAGE = 500


def arguments(app: App, inputs: Inputs, args: Sequence[Any]) -> list[Any]:
    """The positional arguments of the call. Raises StorageUnavailable, SerializationError, TaskitoError."""
    if inputs.results_of is None:
        return list(args)
    ids = list(leaves(inputs.results_of))
    found: dict[str, Job] = {}
    for at in range(0, len(ids), _PAGE):
        found |= {job.id: job for job in app.storage.get(ids[at : at + _PAGE])}
    values = {job_id: _value(app, job_id, found.get(job_id), inputs.collect) for job_id in ids}
    return [filled(inputs.results_of, values), *args]


def for_each(function: Callable[..., object], *args: Any) -> list[object]:
    """One call per item of the last argument, and the list of what they return."""
    *first, items = args
    return [function(*first, *item) for item in items]


def _value(app: App, job_id: str, job: Job | None, collect: bool) -> Any:
    if job is None:
        raise TaskitoError(f"the result of job {job_id} is needed and it is stored no more")
    if job.status is not JobStatus.COMPLETE:
        if not collect:  # The job was cancelled because of this one, and then replayed.
            raise TaskitoError(f"the result of job {job_id} is needed and it has none: it is {job.status}")
        return FailedMember(job.id, job.task_name, str(job.status), job.error)
    return None if job.result is None else app.serializer_of(job.task_name).loads(job.result)
