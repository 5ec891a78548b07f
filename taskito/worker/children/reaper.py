"""Dead processes: found, reaped, and what their exit status says."""

from __future__ import annotations

import os
import time

from taskito.worker.children.child_handle import ChildHandle
from taskito.worker.dispatch.inflight import Exit
from taskito.worker.ipc import signals
from taskito.worker.ipc.slots import SlotRecord
from taskito_core import messages
from taskito_core.job import ErrorInfo, ErrorKind


def next_dead() -> tuple[int, int] | None:
    """(pid, wait status) of some child that has died and is not reaped yet: its pid cannot be another's."""
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if info is None:
        return None
    if info.si_code == os.CLD_EXITED:
        return info.si_pid, info.si_status << 8
    return info.si_pid, info.si_status | (0x80 if info.si_code == os.CLD_DUMPED else 0)


def reap(pid: int) -> bool:
    """Wait for it, and give its pid free; False if it was no child of ours, or is reaped already."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return False
    return True


def await_death(pid: int, seconds: float) -> None:
    """Wait so long for a child process to die; it is not reaped."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
        except ChildProcessError:
            return
        time.sleep(0.002)


def cause_of(status: int) -> str:
    """``SIGKILL`` or ``exit code 3``."""
    if os.WIFSIGNALED(status):
        return signals.name(os.WTERMSIG(status))
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def exit_of(child: ChildHandle, status: int, record: SlotRecord) -> Exit:
    """How this child ended, by its wait status and its last record in the slot table."""
    error = _error(child, status)
    return Exit(error, record.running, record.done, child.timed_out, child.killed, child.cancelled)


def _error(child: ChildHandle, status: int) -> ErrorInfo:
    cause, trace = cause_of(status), child.stack.text()
    if child.fault is not None:
        return ErrorInfo(ErrorKind.CRASH, "ProtocolError", child.fault, trace)
    sentence = messages.KILLED if os.WIFSIGNALED(status) else messages.EXITED
    return ErrorInfo(ErrorKind.CRASH, cause, sentence.format(cause=cause), trace)
