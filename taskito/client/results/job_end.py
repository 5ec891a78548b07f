"""Waiting for the end of a job, and what is known when it does not come in time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from taskito.client.aio import Wait
from taskito.running_job import job_context, job_log
from taskito.running_job.job_context import JobContext
from taskito_core.errors import StorageError, not_found
from taskito_core.job import Job, JobStatus

if TYPE_CHECKING:
    from taskito.client.explain import Blocker
    from taskito_core.storage import Storage

log = logging.getLogger("taskito.worker")

#: Seconds after which a waiting thread checks whether the coroutine it waits for was cancelled.
CHECK_INTERVAL = 5.0
#: Seconds of a wait after which it is worth a few milliseconds to say why it was in vain.
_LONG = 1.0


class HasStorage(Protocol):
    """What jobs are read through."""

    @property
    def storage(self) -> Storage: ...


def await_finished(reader: HasStorage, job_id: str, job: Job | None, wait: Wait) -> Job:
    """The job as it has ended. ``job``: as it was last read; None: not yet.

    Raises JobNotFoundError, StorageUnavailable, and the builtin TimeoutError when the wait is over.
    """
    inside, long = job_context.current(), False
    while True:
        if job is None or not is_over(job):
            job = _read(reader, job_id)
        if job.status.finished:
            return job
        if long and inside is not None and job.status is JobStatus.PENDING:
            _warn_of_waiting(reader.storage, inside, job)
            inside = None  # Said once.
        if (remaining := wait.remaining) <= 0:
            failed = f"; its last attempt failed with {job.error}" if job.error else ""
            raise TimeoutError(
                f"job {job.id} of task {job.task_name!r} is still {job.status} "
                f"after {wait.timeout} seconds{failed}{_in_its_way(reader.storage, job, wait.timeout)}"
            )
        reader.storage.await_finished(job_id, min(remaining, CHECK_INTERVAL))
        long = remaining >= CHECK_INTERVAL


def _warn_of_waiting(storage: Storage, inside: JobContext, job: Job) -> None:
    """A job waits for one that does not begin: perhaps because it, and others like it, hold all children."""
    why = _in_its_way(storage, job, None)
    said = (
        f"waits for job {job.id} of task {job.task_name!r}, which is pending{why}; a job that waits keeps "
        "its child: if all wait, none is left to run what they wait for"
    )
    log.warning("job %s (%s) %s", inside.id, inside.task_name, said)
    inside.controls.note(job_log.log(said, "warning", None))


def _in_its_way(storage: Storage, job: Job, waited: float | None) -> str:
    """Why the job that was waited for does not begin, as the end of a sentence; '' if that is not known."""
    if job.status is not JobStatus.PENDING:
        return ""
    from taskito.client.explain import explain, running_by_queue  # only for those who waited in vain

    try:
        facts = storage.facts(job.id)
        found: tuple[Blocker, ...] = ()
        if facts is not None:
            # Not after a short wait: who polls with result(timeout=0.1) would count again and again.
            running = running_by_queue(storage) if waited is None or waited >= _LONG else None
            found = explain(facts, storage.workers(), running=running).blockers
    except StorageError:
        return ""  # That the time is up is the answer; this is a hint.
    return "".join(f"; {one.text}" for one in found)


def _read(reader: HasStorage, job_id: str) -> Job:
    if found := reader.storage.get([job_id]):
        return found[0]
    raise not_found(job_id)


def is_over(job: Job) -> bool:
    """True if it will not change any more: one that was cancelled because of another may be revived."""
    return job.status.finished and job.status is not JobStatus.CANCELLED
