"""Exceptions as text and as results: what the user's code did, without the frames that are ours."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pluggy

import taskito_core
from taskito.running_job.current_job import SnoozeRequest
from taskito.worker.ipc.wire import ResultKind, pack_delay, pack_error
from taskito_core.errors import ConfigError, JobCancelled, SoftTimeoutError, WorkerShutdown
from taskito_core.job import ErrorInfo, ErrorKind, clean_text

#: Characters of an exception's message that are kept.
_MESSAGE_CAP = 16 * 1024
#: Frames at the edges of a traceback that tell a user nothing: ours, and what we call the task through.
_MACHINERY = (
    str(Path(__file__).parents[2]) + os.sep,
    os.path.dirname(taskito_core.__file__) + os.sep,
    os.path.dirname(pluggy.__file__) + os.sep,
    os.path.dirname(os.__file__) + os.sep + "asyncio" + os.sep,
    os.path.dirname(os.__file__) + os.sep + "importlib" + os.sep,
    "<frozen importlib",
)


def failure(exc: BaseException, is_retryable: Callable[[BaseException], bool]) -> tuple[ResultKind, bytes]:
    """The result of a run that ``exc`` ended."""
    if delays := _snoozed(exc):
        return ResultKind.SNOOZED, pack_delay(max(delays))
    if _is(exc, JobCancelled):
        return ResultKind.CANCELLED, clean_text(str(exc), 500).encode()
    if _is(exc, WorkerShutdown):
        return ResultKind.INTERRUPTED, b""
    if _is(exc, SoftTimeoutError):
        error = describe(exc, ErrorKind.TIMEOUT)._replace(type=SoftTimeoutError.__name__)
        return ResultKind.TIMED_OUT, pack_error(error, True)
    try:
        retryable = is_retryable(exc)
    except Exception:
        retryable = True  # An exception whose class cannot be compared is no reason against retrying.
    return ResultKind.RAISED, pack_error(describe(exc, ErrorKind.RAISED), retryable)


def rejection(exc: BaseException) -> tuple[ResultKind, bytes]:
    """The result of a job that could not be run, or whose value could not be sent, whatever one tries."""
    return ResultKind.RAISED, pack_error(describe(exc, ErrorKind.REJECTED), False)


def describe(exc: BaseException, kind: ErrorKind) -> ErrorInfo:
    """``exc`` as text that every store can keep. Never raises, whatever the exception's own methods do."""
    try:
        message = str(exc)
    except BaseException as problem:
        message = f"<its str() raised {type(problem).__name__}>"
    try:
        text = format_traceback(exc)
    except BaseException as problem:
        text = f"<formatting the traceback raised {type(problem).__name__}>"
    return ErrorInfo(
        kind, clean_text(type(exc).__name__, 200), clean_text(message, _MESSAGE_CAP), clean_text(text)
    )


def format_traceback(exc: BaseException) -> str:
    """The traceback as Python prints it, without our frames at its beginning and end."""
    record = traceback.TracebackException.from_exception(exc)
    link: traceback.TracebackException | None = record
    while link is not None:
        _trim(link.stack)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "".join(record.format())


def _trim(stack: traceback.StackSummary) -> None:
    first, last = 0, len(stack)
    while first < last and stack[first].filename.startswith(_MACHINERY):
        first += 1
    while last > first and stack[last - 1].filename.startswith(_MACHINERY[0]):
        last -= 1
    stack[:] = stack[first:last]


def boot_failure(exc: BaseException) -> bytes:
    """The body of FAILED: JSON ``["error", sentence]``, or ``["traceback", text]`` if the app raised."""
    if isinstance(exc, ConfigError):
        return json.dumps(["error", clean_text(f"{exc}{place_in_app(exc)}")]).encode()
    return json.dumps(["traceback", clean_text(format_traceback(exc))]).encode()


def place_in_app(exc: BaseException) -> str:
    """Where in the app something of ours was called that raised: ``" (file:line)"``; "" if nowhere."""
    found = ""
    for frame, line in traceback.walk_tb(exc.__traceback__):
        name = frame.f_code.co_filename
        if not name.startswith(_MACHINERY):
            found = f" ({name}:{line})"
        elif found:
            break  # What is below was called by us: another plugin, for one.
    return found


def _snoozed(exc: BaseException) -> list[float]:
    """How long the task asked to sleep: several times if a task group wrapped that up, and nothing else."""
    delays: list[float] = []
    for one in _members(exc):
        if not isinstance(one, SnoozeRequest):
            return []
        delays.append(one.delay)
    return delays


def _is(exc: BaseException, kind: type[BaseException]) -> bool:
    """Also if a task group wrapped it up with others."""
    return any(isinstance(one, kind) for one in _members(exc))


def _members(exc: BaseException) -> Iterator[BaseException]:
    """What a group and the groups in it hold, at whatever depth; of any other exception itself."""
    waiting = [exc]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        else:
            yield one
