"""What a job did to its process and must not leave to the next: found between two jobs, and put right.

Signals, the standard streams and their descriptors, the event loop policy, our loggers, the stack traces.
They are as the child had them when it began to take jobs: what the app set up when it was imported is kept.
What a task keeps on purpose (modules, caches, connections, a directory that exists) is its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import sys
import warnings
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]
from collections.abc import Callable
from typing import Any

from taskito.config.output import file_of
from taskito.worker.ipc import signals

log = logging.getLogger("taskito.worker")

#: Signals whose handlers a job must leave alone. SIGPIPE, if not ignored, kills the process at the next write
#: to a closed pipe; the last two are those of ``Interrupts``. Plain numbers: enums are slow to look up.
_KEPT = tuple(
    map(int, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGALRM, signal.SIGUSR2))
)
_STREAMS = ("stdin", "stdout", "stderr")
#: Copies of the standard descriptors are numbered from here, out of the way of a task that counts from 3.
_FIRST_COPY = 100
#: So many blocked signals are named in the log.
_NAMED = 5


class ProcessState:
    """The state of one child's process as it should be at the beginning of each job. Main thread only."""

    def __init__(self, repair_traces: Callable[[], bool], repair_interrupts: Callable[[], bool]) -> None:
        # Each puts its own things right, and answers whether it had to.
        self._repair_traces = repair_traces
        self._repair_interrupts = repair_interrupts
        self._handlers: list[tuple[int, Any]] = []
        self._mask: set[int] = set()
        self._streams: list[Any] = []  #: of ``_STREAMS``
        self._copies: dict[int, tuple[int, object]] = {}  #: descriptor -> its copy, and the file of both
        self._policy: Any = None
        self._directory = "/"
        self._disabled = (False, 0)

    def remember_signals(self) -> None:
        """The child's own handlers stand now, and no code of others has run since."""
        self._handlers = [(signum, getsignal(signum)) for signum in _KEPT]
        self._mask = pthread_sigmask(signal.SIG_BLOCK, ())

    def remember(self) -> None:
        """All else is as it should be now: plugins have set up what they want, and no job has run."""
        self._streams = [getattr(sys, name) for name in _STREAMS]
        for fd in range(3):
            with contextlib.suppress(OSError):
                copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_COPY)
                self._copies[fd] = copy, file_of(copy)
        self._policy = _policy()
        with contextlib.suppress(OSError):
            self._directory = os.getcwd()
        self._disabled = _disabled()

    def descriptors(self) -> tuple[int, ...]:
        """What a process forked by a task must not keep."""
        return tuple(copy for copy, _ in self._copies.values())

    def is_touched(self) -> bool:
        """After a job: are there other signal handlers or streams? Takes half a microsecond."""
        for signum, handler in self._handlers:
            if getsignal(signum) is not handler:
                return True
        stdin, stdout, stderr = self._streams
        try:
            return sys.stdin is not stdin or sys.stdout is not stdout or sys.stderr is not stderr
        except AttributeError:  # deleted
            return True

    def restore(self, task_name: str, thorough: bool) -> bool:
        """After a job: put right what it left, and log it. True if there was something.

        Without ``thorough`` only what ``is_touched`` sees is looked at.
        """
        left: list[str] = []
        self._restore_handlers(left)
        self._restore_streams(left)
        if thorough:
            self._restore_signals(left)
            self._restore_descriptors(left)
            self._restore_python(left)
        if left:
            # Last: the log may be among what was put right.
            log.warning(
                "task %s left things to the jobs after it, which were put right: %s",
                task_name,
                ", ".join(left),
            )
        return bool(left)

    def _restore_handlers(self, left: list[str]) -> None:
        if self._repair_interrupts():
            left.append("a handler of SIGALRM or SIGUSR2")
        for signum, handler in self._handlers:
            if getsignal(signum) is not handler:
                signal.signal(signum, handler)
                left.append(f"a handler of {signals.name(signum)}")

    def _restore_streams(self, left: list[str]) -> None:
        for name, stream in zip(_STREAMS, self._streams, strict=True):
            if vars(sys).get(name) is not stream:
                setattr(sys, name, stream)
                left.append(f"another sys.{name}")

    def _restore_signals(self, left: list[str]) -> None:
        if getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            left.append("an ignored SIGCHLD")
        if (wakeup := signal.set_wakeup_fd(-1)) != -1:
            left.append(f"a wakeup descriptor ({wakeup})")
        mask = pthread_sigmask(signal.SIG_BLOCK, ())
        if mask != self._mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            names = [signals.name(signum) for signum in sorted(mask ^ self._mask)]
            more = " …" if len(names) > _NAMED else ""
            left.append(f"a changed signal mask ({' '.join(names[:_NAMED])}{more})")
        if self._repair_traces():
            left.append("no stack traces")

    def _restore_descriptors(self, left: list[str]) -> None:
        for fd, (copy, file) in self._copies.items():
            found = file_of(fd)
            # A copy that is none any more was closed by a task, and its number is another's.
            if found != file and file_of(copy) == file:
                os.dup2(copy, fd)
                left.append(f"descriptor {fd} {'closed' if found is None else 'redirected'}")

    def _restore_python(self, left: list[str]) -> None:
        policy = _policy()
        if policy is not self._policy:
            if _is_default(policy) and _is_default(self._policy):
                self._policy = policy  # Made by the first use of an event loop.
            else:
                _set_policy(self._policy)
                left.append("an event loop policy")
        if _disabled() != self._disabled:
            log.disabled, logging.root.manager.disable = self._disabled
            left.append("disabled loggers")
        try:
            os.getcwd()
        except OSError:
            with contextlib.suppress(OSError):
                os.chdir(self._directory)
            left.append("a working directory that is gone")


def _policy() -> Any:
    """The event loop policy of this process; None: the default one, if an event loop is ever made."""
    return getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)


def _set_policy(policy: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        sys.modules["asyncio.events"].set_event_loop_policy(policy)


def _is_default(policy: Any) -> bool:
    return policy is None or type(policy).__module__.startswith("asyncio.")


def _disabled() -> tuple[bool, int]:
    """Of the child's own logger, as ``logging.config`` leaves those it is not told of; of all, by level."""
    return log.disabled, logging.root.manager.disable
