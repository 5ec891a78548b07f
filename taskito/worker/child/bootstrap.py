"""What a zygote and a child make of themselves before anything runs: signals, descriptors, the app.

Nothing may cross a fork that belongs to one process: connections, event loops and signal handlers
that the app made when it was imported are found here, reported, and made harmless in the children.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import contextlib
import logging
import os
import random
import signal
import socket
import stat
import sys
import weakref
from collections.abc import Collection, Mapping
from types import FrameType
from typing import Any

from taskito.worker.child import output
from taskito.worker.child.app import App, LoadApp
from taskito.worker.ipc import platform
from taskito.worker.ipc.app_manifest import AppManifest

log = logging.getLogger("taskito.worker")

#: What cannot be changed, and what Python ignores so that a write to a closed pipe is an exception.
_LEFT_ALONE = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}


def block_signals() -> None:
    """Keep every signal pending, in the calling thread and those it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def unblock_signals() -> None:
    """Deliver what is pending and what comes."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


def reset_signals(caught: Collection[signal.Signals]) -> None:
    """Every disposition as in a fresh process; those of ``caught`` are caught and do nothing.

    Caught and not ignored: an ignored signal would stay ignored in every program that a task starts.
    """
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if signum in _LEFT_ALONE:
            continue
        with contextlib.suppress(OSError, ValueError):
            signal.signal(signum, _nothing if signum in caught else signal.SIG_DFL)


def handler_of(signum: signal.Signals) -> object:
    """``signal.getsignal`` without its try to make an enum of every handler, which takes 3 µs."""
    return _signal.getsignal(signum)


def _nothing(signum: int, frame: FrameType | None) -> None:
    pass


def import_app(name: str, load: LoadApp) -> tuple[App, AppManifest]:
    """Import the app. Raises ConfigError for a wrong name, and whatever the app's own code raises."""
    # An app that reads its command line must not see our descriptors and options.
    sys.argv = [sys.argv[0]]
    output.stand_in()
    return load(name)


def unshareable_descriptors(known: Collection[int]) -> dict[int, str]:
    """What the app opened that two processes must not use together: number to description.

    Streams, event loops and SQLite files. Plain files (logs) and datagram sockets (syslog, statsd) are fine.
    """
    found: dict[int, str] = {}
    for fd in platform.open_descriptors():
        if fd > 2 and fd not in known and (description := _unshareable(fd)):
            found[fd] = description
    return found


def _unshareable(fd: int) -> str | None:
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as duplicate:
            return None if duplicate.type == socket.SOCK_DGRAM else "a socket"
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    if target.startswith("anon_inode:"):
        return f"an event loop's {target.removeprefix('anon_inode:')}"
    if stat.S_ISREG(mode) and _is_sqlite(fd, target):
        return f"the database {target}"
    return None


def _is_sqlite(fd: int, path: str) -> bool:
    if path.endswith(("-wal", "-shm", "-journal")):
        return True
    try:
        return os.pread(fd, 16, 0) == b"SQLite format 3\0"
    except OSError:
        return False


def make_useless(descriptors: Mapping[int, str]) -> None:
    """Put something in their place that fails at every read and write.

    Not closed: the objects that believe to own these numbers would write into whatever is opened next.
    """
    if not descriptors:
        return
    dummy = os.open(os.devnull, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    for fd in descriptors:
        os.dup2(dummy, fd, inheritable=False)
    os.close(dummy)


def freshen() -> None:
    """In a forked child: undo what it has in common with its siblings and should not."""
    _leave_files_to_the_zygote()
    # Or every child would draw the same numbers. The app's own generators are left alone: it may have seeded
    # them on purpose.
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        try:
            _reseed(numpy_random)
        except Exception as exc:
            log.warning("numpy.random draws the same numbers in all children: it cannot be seeded: %s", exc)


def _reseed(numpy_random: Any) -> None:
    """Give NumPy's global generator a new state, and let it forget what it drew ahead."""
    usual = numpy_random.MT19937
    # The app may have put a generator of another kind there (NumPy 1.24), of which seed() forgets nothing.
    kind = type(numpy_random.get_bit_generator()) if hasattr(numpy_random, "get_bit_generator") else usual
    if kind is usual:
        numpy_random.seed()
        return
    fresh = kind()
    numpy_random.set_bit_generator(usual())
    numpy_random.seed()
    numpy_random.set_bit_generator(fresh)


def _leave_files_to_the_zygote() -> None:
    """Of the exit functions that the app registered at import, keep those which remove no files.

    Each child runs its own copy of the others when it ends, as every forked process does: its buffers are its
    own. Files that were made before the fork are its siblings' too, and go with the zygote, which ends last.
    """
    # Not imported for it: an app that has not done so either has none of theirs.
    removers = [os.remove, os.unlink, os.rmdir, getattr(sys.modules.get("shutil"), "rmtree", os.rmdir)]
    directory = getattr(sys.modules.get("tempfile"), "TemporaryDirectory", ())
    for remove in removers:
        atexit.unregister(remove)
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        found = finalizer.peek()
        if found is not None and (isinstance(found[0], directory) or found[1] in removers):
            finalizer.atexit = False
    # Or the first child to end would terminate the processes that the app started at import.
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        processes._children.clear()


def flush_loggers() -> None:
    """Write out what the handlers of all loggers keep: once, and not in each child again."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in {handler for logger in loggers for handler in getattr(logger, "handlers", ())}:
        with contextlib.suppress(Exception):
            handler.flush()


def write_lines() -> None:
    """Make prints appear when they are made, also if this process is killed later."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def flush_output() -> None:
    """Write out what is buffered; a closed stream is ignored."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()  # type: ignore[union-attr]
