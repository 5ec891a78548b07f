"""From a child's messages and exit to the results that ``decide`` takes, and to metrics. Pure."""

from __future__ import annotations

from taskito.worker.dispatch.inflight import Exit, InFlight
from taskito.worker.dispatch.lanes import unread_lane
from taskito.worker.ipc.wire import ResultKind, ResultMessage, WireError, unpack_delay, unpack_error
from taskito_core import messages
from taskito_core.job import Claim, ErrorInfo, ErrorKind
from taskito_core.metrics import Tallies
from taskito_core.retry import Crashed, HandedBack, Lost, Raised, Result, Returned, Snoozed, Stopped

#: How attempts end that count. One that was handed back, or whose result was lost with its process, has
#: not finished.
FINISHED = (Returned, Raised, Crashed)
#: The end of the message about a process that died under several jobs.
_SUSPECTED = "{problem}; {others} more ran in it, any of which may be the cause: each runs alone from now on"
_UNASKED = ErrorInfo(ErrorKind.RAISED, "WorkerShutdown", messages.STOPPED_UNASKED)


def of_message(entry: InFlight, message: ResultMessage, stopping: bool) -> Result:
    """How a run ended that its child reported. ``stopping``: running jobs are being interrupted."""
    try:
        match message.kind:
            case ResultKind.RETURNED | ResultKind.RECORDED:
                return Returned(message.body)
            case ResultKind.CANCELLED:
                return Stopped(message.body.decode(errors="replace") or messages.CANCELLED_ON_REQUEST)
            case ResultKind.SNOOZED:
                return Snoozed(unpack_delay(message.body))
            case ResultKind.RAISED | ResultKind.TIMED_OUT:
                return Raised(*unpack_error(message.body))
            case ResultKind.INTERRUPTED:
                # Handed back uncharged, a task that raises it by itself would run for ever.
                return HandedBack() if stopping else Raised(_UNASKED, retryable=True)
            case ResultKind.UNKNOWN_TASK:
                return HandedBack(lane=entry.claim.task_name)
            case ResultKind.UNREADABLE:
                return HandedBack(lane=unread_lane(entry.claim.task_name))
    except WireError as exc:
        return Crashed(ErrorInfo(ErrorKind.CRASH, "ProtocolError", f"its process sent {exc}"))


def of_exit(entry: InFlight, how: Exit) -> Result:
    """How a run ended that a child was inside of when it ended.

    If we killed the child for one of its jobs, or for a reason of ours, the others are handed back. If it
    died by itself, any of them may be the cause: all are charged, and run alone from then on (``sharing``).
    """
    if entry.seq == how.cancelled:
        return Stopped(messages.CANCELLED_ON_REQUEST)
    if entry.seq == how.timed_out:
        message = messages.TIMED_OUT.format(timeout=entry.timeout)
        error = ErrorInfo(ErrorKind.TIMEOUT, "TaskTimeoutError", message, how.error.traceback)
        return Raised(error, retryable=True)
    if how.ours or how.timed_out or how.cancelled:
        return HandedBack()
    if len(how.running) == 1:
        return Crashed(how.error)
    note = _SUSPECTED.format(problem=how.error.message, others=len(how.running) - 1)
    return Crashed(how.error._replace(message=note))


def of_lost_result(how: Exit) -> Lost:
    """A job that ended, and whose result was lost with its child. Not the job's fault."""
    message = messages.RESULT_LOST.format(problem=how.error.message)
    return Lost(ErrorInfo(ErrorKind.INTERRUPTED, "ResultLost", message, how.error.traceback))


def measure(
    tallies: Tallies, claim: Claim, succeeded: bool, started_at: int, ran: float, peak_memory: int
) -> None:
    """Count an attempt that began at ``started_at`` by the store's clock and ran ``ran`` seconds."""
    # Two machines' clocks may have had a part in it: no wait is negative.
    waited = max(0, started_at - claim.due_at) / 1000
    tallies.of(claim.task_name, claim.queue).add(succeeded, ran, waited, peak_memory)
