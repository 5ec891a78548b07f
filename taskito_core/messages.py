"""The sentences about jobs that taskito itself writes into rows, where users read them; one for all stores.

Texts with ``{names}`` are templates: Python fills them with ``format``, and SQL with ``as_sql``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from string import Formatter

from taskito_core.job import Dead, DeadReason, ErrorInfo, ErrorKind

# ---- why a job was cancelled: its ``error`` ----

#: By ``cancel_job`` and its like.
CANCELLED_BEFORE_START = "cancelled: somebody asked for it before it began"
#: The task stopped on request.
CANCELLED_ON_REQUEST = "cancelled: somebody asked for it while it ran"
#: It was asked to stop, and its attempt ended in a retry, a release or a rescue.
CANCELLED_WHILE_RUNNING = "cancelled while running"
#: ``status`` is how the parent ended, or ``deleted``.
PARENT_FAILED = "parent {parent} was {status}"
#: ``status`` in PARENT_FAILED of a parent that is stored no more, so that nothing says it completed.
DELETED = "deleted"
#: In its log, when a replay of ``job`` revives it; ``error`` said why it was cancelled.
REVIVED = "pending again: job {job}, without which it could not run, runs again as {replay}; before: {error}"
#: ``moment`` is ``expires_at`` in UTC, ISO 8601 with milliseconds: see ``expired``.
EXPIRED = "expired: not started by {moment}"
#: With ``on_excess="drop"``.
DROPPED = "dropped: all {concurrency} places of '{key}' are taken"

# ---- what went wrong in an attempt: ``message`` of its error ----

#: Its queue is full: what QueueFull says. ``count`` new jobs of the call are for this queue.
QUEUE_FULL = (
    "queue '{queue}' may hold {ceiling} pending jobs, and has no room for {count} more: nothing was stored; "
    "enqueue later, or raise the ceiling ('taskito queues limit')"
)
#: Its worker is dead, stopped or unknown. The error's type is WORKER_LOST_TYPE.
WORKER_LOST = "worker {worker} is gone; the job was taken back from it"
WORKER_LOST_TYPE = "WorkerLost"
#: Its process; ``cause`` is ``SIGKILL`` or ``exit code 3``.
KILLED = "the process running the job was killed by {cause}"
EXITED = "the process running the job ended with {cause}"
#: ``problem`` is one of the sentences about its process.
RESULT_LOST = "the job ended but its result was lost with the process: {problem}"
#: In a child.
TIMED_OUT = "still running after its timeout of {timeout:g} s; its process was killed"
#: In a thread, which has to end by itself.
RAN_TOO_LONG = "ran {ran:.3f} s, its timeout is {timeout:g} s; a thread cannot be killed"
#: A worker that stops broke it off.
NOT_WAITED_FOR = "the worker could not wait for it"
#: The task raised WorkerShutdown itself.
STOPPED_UNASKED = "raised by the task: nobody had asked it to stop"
#: It was taken away each time; ``times`` counts. The job is buried with this.
INTERRUPTED_TOO_OFTEN = "interrupted {times} times: the worker died or lost it each time it ran"
#: The store refuses the outcome; the job is buried with this instead. ``problem`` is what the store said.
NOT_STORABLE = "the outcome could not be stored: {problem}"


def expired(expires_at: int) -> str:
    """EXPIRED, for a job that had to start before this moment."""
    moment = datetime.fromtimestamp(expires_at / 1000, UTC)
    return EXPIRED.format(moment=moment.isoformat(timespec="milliseconds"))


def missing_parents(job_id: str, missing: Sequence[str]) -> str:
    """What the JobNotFoundError of ``enqueue`` says: these parents of the job are not stored."""
    return (
        f"job {job_id} depends on what is not stored: {', '.join(missing[:5])}; "
        "enqueue parents first, or before it in the same batch"
    )


def worker_lost(worker: str | None) -> ErrorInfo:
    """The error of an attempt that a rescue ended."""
    return ErrorInfo(ErrorKind.INTERRUPTED, WORKER_LOST_TYPE, WORKER_LOST.format(worker=worker or "?"))


def rejected(job_id: str, token: int, problem: Exception) -> Dead:
    """What stands in for an outcome that the store refuses, so that the job comes to an end."""
    error = ErrorInfo(ErrorKind.REJECTED, type(problem).__name__, NOT_STORABLE.format(problem=problem))
    return Dead(job_id, token, DeadReason.REJECTED, None, error, None)


def as_sql(template: str, **expressions: str) -> str:
    """The template as an SQL expression of type text: its literals and ``expressions``, joined by ``||``."""
    parts = []
    for literal, name, _, _ in Formatter().parse(template):
        if literal:
            parts.append("'" + literal.replace("'", "''") + "'")
        if name is not None:
            parts.append(expressions[name])
    return " || ".join(parts)


def clock_set_back(at: int, by: int) -> tuple[str, str, str]:
    """What to say of a clock that was set back at a moment, by so many milliseconds: see ``Finding``."""
    moment = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds")
    return (
        f"the store's clock was set back by {timedelta(milliseconds=by)} at {moment}",
        "what it had made due too early has run; what it had put off was moved back with it",
        "find out who sets that clock: it should be slewed (chronyd, ntpd) and not stepped",
    )
