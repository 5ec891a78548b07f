"""What a child's message or death says about the jobs it held, in the words that ``decide`` takes. Pure."""

from __future__ import annotations

from taskito.running_job.current_job import CANCEL_ASKED
from taskito.worker.dispatch.inflight import Exit, InFlight
from taskito.worker.ipc.wire import ResultKind, ResultMessage, WireError, unpack_delay, unpack_error
from taskito_core.job import ErrorInfo, ErrorKind
from taskito_core.retry import Crashed, HandedBack, Lost, Raised, Result, Returned, Snoozed, Stopped

_UNASKED = ErrorInfo(ErrorKind.RAISED, "WorkerShutdown", "raised by the task: nobody had asked it to stop")


def of_message(entry: InFlight, message: ResultMessage, stopping: bool) -> Result:
    """How a run ended that its child reported. ``stopping``: running jobs are being interrupted."""
    try:
        match message.kind:
            case ResultKind.RETURNED | ResultKind.RECORDED:
                return Returned(message.body)
            case ResultKind.CANCELLED:
                return Stopped(message.body.decode(errors="replace") or CANCEL_ASKED)
            case ResultKind.SNOOZED:
                return Snoozed(unpack_delay(message.body))
            case ResultKind.RAISED | ResultKind.TIMED_OUT:
                return Raised(*unpack_error(message.body))
            case ResultKind.INTERRUPTED:
                # Handed back uncharged, a task that raises it by itself would run for ever.
                return HandedBack() if stopping else Raised(_UNASKED, retryable=True)
            case ResultKind.UNKNOWN_TASK:
                return HandedBack(lane=entry.claim.task_name)
    except WireError as exc:
        return Crashed(ErrorInfo(ErrorKind.CRASH, "ProtocolError", f"its process sent {exc}"))


def of_death(entry: InFlight, death: Exit) -> Result:
    """How the run ended that a child was inside of when it died."""
    if entry.seq == death.timed_out:
        message = f"still running after its timeout of {entry.timeout:g} s; its process was killed"
        error = ErrorInfo(ErrorKind.TIMEOUT, "TaskTimeoutError", message, death.error.traceback)
        return Raised(error, retryable=True)
    return HandedBack() if death.ours else Crashed(death.error)


def of_lost_result(death: Exit) -> Lost:
    """A job that ended, and whose result died with its child. Not the job's fault."""
    message = f"the job ended but its result was lost with the process: {death.error.message}"
    return Lost(ErrorInfo(ErrorKind.INTERRUPTED, "ResultLost", message, death.error.traceback))
