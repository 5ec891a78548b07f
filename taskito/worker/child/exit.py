"""How a child ends: in good order after a drain, or at once."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Protocol

from taskito.worker.child import bootstrap
from taskito.worker.ipc.wire import ResultKind, unpack_error

if TYPE_CHECKING:
    from taskito.worker.child.app import App

log = logging.getLogger("taskito.worker")

#: Seconds that threads which tasks left behind are waited for.
_THREAD_GRACE = 3.0
#: Seconds that exit functions may take, all together.
_EXIT_GRACE = 3.0


class Loop(Protocol):
    """What is left of running jobs: what the app made for this child, and event loops."""

    def close_resources(self) -> None: ...
    def close(self) -> None: ...


def at_once(code: int, message: str = "") -> NoReturn:
    """Exit without running anything more; what was printed is written out."""
    if message and sys.__stderr__ is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.__stderr__.write(message)
    bootstrap.flush_output()
    os._exit(code)


def as_a_copy(kind: ResultKind, body: bytes) -> NoReturn:
    """The exit of a process that a task forked and that ran to the task's end, as a script's would be."""
    if kind is ResultKind.RETURNED:
        at_once(0)
    error, _ = unpack_error(body) if body else (None, False)
    if error is not None and error.type == SystemExit.__name__ and error.message in ("", "None"):
        at_once(0)
    if error is not None and error.type == SystemExit.__name__ and error.message.isdecimal():
        at_once(int(error.message) & 0xFF)
    at_once(1, error.traceback or error.summary if error is not None else "")


def in_good_order(app: App, loops: Loop) -> NoReturn:
    """Hooks, event loop, connections, threads, exit functions; then exit 0 whatever they did."""
    steps: tuple[Callable[[], object], ...] = (
        loops.close_resources,
        lambda: app.plugins.observe("taskito_child_stopping"),
        loops.close,
        app.close,
    )
    for step in steps:
        try:
            step()
        except BaseException:
            log.exception("a child failed to clean up")
    _wait_for_threads()
    after_exit_functions()


def after_exit_functions() -> NoReturn:
    """Run what the app and its tasks have registered with ``atexit``, for a bounded time; then exit 0."""
    overdue = threading.Timer(_EXIT_GRACE, _leave_exit_functions)
    overdue.daemon = True
    overdue.start()
    try:
        atexit._run_exitfuncs()
    except BaseException:
        log.exception("an exit function failed")
    at_once(0)


def _leave_exit_functions() -> NoReturn:
    log.warning("the exit functions of the app did not end within %g s and are left", _EXIT_GRACE)
    at_once(0)


def _wait_for_threads() -> None:
    """Let non-daemon threads end, for a bounded time; idle executors are told to end first."""
    left = [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if not left:
        return
    # In a thread of its own, because Python waits for them without a limit.
    waiter = threading.Thread(target=threading._shutdown, daemon=True)  # type: ignore[attr-defined]
    waiter.start()
    waiter.join(_THREAD_GRACE)
    if waiter.is_alive():
        names = ", ".join(thread.name for thread in left if thread.is_alive())
        log.warning("a child leaves threads behind that tasks started: %s", names)
