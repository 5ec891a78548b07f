"""Arguments that this worker cannot read, or its function does not take, though it knows the task: its app is
an older version, as a rule.

Such a job is left to workers that can, as one of an unknown task is. Its log keeps who could not read it, and
since when, so that it comes to an end if nobody can.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskito.running_job import job_log
from taskito.worker.child.failures import rejection
from taskito.worker.ipc.wire import JobMessage, ResultKind
from taskito_core.errors import SerializationError, StorageError
from taskito_core.storage_client import LogFilter
from taskito_core.storage_worker import WorkerStatus

if TYPE_CHECKING:
    from taskito.serialization.serializers import Inputs
    from taskito.worker.child.app import App, AppTask
    from taskito_core.storage import Storage

log = logging.getLogger("taskito.worker")

#: Adds a line to the log of the running job.
Note = Callable[[job_log.Fields], None]

#: Lines of a job's log that are read.
_LINES = 1000


def unfit_call(
    task: AppTask,
    raised: BaseException,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    inputs: Inputs | None,
) -> SerializationError | None:
    """Why the function did not begin, if ``raised`` is Python's word for arguments that it does not take.

    A producer checks its calls, so this is one of another version: its function has other parameters. Asked
    after the fact, because binding arguments costs more than all else that is done for a small job.
    """
    if not isinstance(raised, TypeError):
        return None
    if inputs is not None and inputs.each:  # If the first of its calls fits, something has begun.
        args = [*args[:-1], *args[-1][0]] if args[-1] else []
    try:
        signature = inspect.signature(task.function)
    except (TypeError, ValueError):  # some functions written in C have none
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        return SerializationError(f"task {task.name} takes {signature} here: {exc}")
    return None


def left_to_others(
    app: App, job: JobMessage, note: Note | None, problem: SerializationError
) -> tuple[ResultKind, bytes]:
    """The result of a run that ``problem`` kept from beginning. Never raises.

    ``note`` adds to the job's log. A rejection if it is None, because there are no other workers then, or if
    ``unreadable_ttl`` is over and every live worker that could take the job has tried.
    """
    limit = app.settings.unreadable_ttl
    if note is None or limit <= 0:
        return rejection(problem)
    try:
        if _is_given_up(app.storage, job, note, problem, limit):
            return rejection(SerializationError(f"{problem}; no live worker could read it for {limit:g} s"))
    except StorageError as exc:
        log.warning("job %s: who has tried to read its arguments is not known: %s", job.id, exc)
    except BaseException as exc:
        return rejection(exc)
    return ResultKind.UNREADABLE, b""


def _is_given_up(
    storage: Storage, job: JobMessage, note: Note, problem: SerializationError, limit: float
) -> bool:
    worker_id = next((row.worker for row in storage.get([job.id])), None)
    if worker_id is None:
        return False
    now = storage.now()
    lines = storage.logs(LogFilter(job_id=job.id, levels=(job_log.UNREADABLE_LEVEL,)), _LINES)
    tried = dict(filter(None, map(job_log.unreadable_by, lines)))
    if worker_id not in tried:
        log.warning("job %s (%s) is left to newer workers: %s", job.id, job.task_name, problem)
        note(job_log.unreadable(worker_id, now, problem))
    if now - min(tried.values(), default=now) < limit * 1000:
        return False
    return not any(
        info.status is WorkerStatus.ALIVE
        and info.id not in (worker_id, *tried)
        and job.queue in info.queues
        and job.task_name in info.tasks
        for info in storage.workers()
    )
