"""What a job prints, kept as lines of its log: for tasks that asked for ``capture_output``.

Stand-ins for ``sys.stdout`` and ``sys.stderr`` check the context they are written in: inside of such a
job they keep the text, everywhere else it goes where it always went. So it works in threads too, and what
a job had printed before it hung or died is there. What C code or another process writes does not come
by here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TextIO, cast

from taskito.running_job import job_log

#: Characters of one attempt's output that are kept.
MOST_KEPT = 64 * 1024
#: Characters of a line that does not end after which it is kept as it is.
LONGEST_LINE = 8 * 1024

_capture: ContextVar[Capture] = ContextVar("taskito_output")
_installing = threading.Lock()
_users = 0  #: how many need the stand-ins in their places


class Capture:
    """The output of one attempt. Its threads may write at the same time."""

    def __init__(self, note: Callable[[job_log.Fields], None]) -> None:
        self._note = note
        self._lock = threading.RLock()
        self._pending = {"stdout": "", "stderr": ""}
        self._left = MOST_KEPT
        self._pid = os.getpid()
        self._open = True

    def write(self, stream: str, text: str) -> bool:
        """Keep it; False if the attempt is over, which its threads may not know, or this is a fork of it."""
        if os.getpid() != self._pid:
            return False
        with self._lock:
            if not self._open:
                return False
            *lines, rest = map(_overwritten, (self._pending[stream] + text).split("\n"))
            if len(rest) >= LONGEST_LINE:
                lines, rest = [*lines, rest], ""
            self._pending[stream] = rest
            for line in lines:
                self._keep(stream, line)
            return True

    def close(self) -> None:
        """Keep what has no end of line yet, and nothing more after it."""
        with self._lock:
            self._open = False
            for stream, rest in self._pending.items():
                if rest:
                    self._keep(stream, rest)

    def _keep(self, stream: str, line: str) -> None:
        if self._left < 0:
            return
        self._left -= len(line) + 1
        if self._left < 0:
            line = f"(what it printed beyond {MOST_KEPT} characters was not kept)"
        self._note(job_log.printed(stream, line.removesuffix("\r")))


def _overwritten(line: str) -> str:
    """What a terminal would show of a line that is written again and again, as a progress bar is."""
    if "\r" not in line:
        return line
    shown = line.rstrip("\r")
    end = "\r" if shown != line else ""  # What comes next is written over it.
    return shown.rpartition("\r")[2] + end


class _StandIn:
    """In the place of one of the standard streams, which it is in all but ``write``."""

    def __init__(self, stream: str, original: TextIO) -> None:
        self._stream = stream
        self.original = original

    def write(self, text: str) -> int:
        capture = _capture.get(None)
        if capture is None or not capture.write(self._stream, text):
            return self.original.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def captured(
    note: Callable[[job_log.Fields], None], function: Callable[..., object], *args: object, **kwargs: object
) -> object:
    """Call the function, and have ``note`` keep each line that it prints."""
    with _kept(note):
        return function(*args, **kwargs)


async def captured_coroutine(
    note: Callable[[job_log.Fields], None], function: Callable[[], Awaitable[object]]
) -> object:
    """The same for what is awaited, and for the coroutines that it starts."""
    with _kept(note):
        return await function()


@contextlib.contextmanager
def _kept(note: Callable[[job_log.Fields], None]) -> Iterator[None]:
    capture = Capture(note)
    token = _capture.set(capture)
    stand_in()
    try:
        yield
    finally:
        _stand_down()
        _capture.reset(token)
        capture.close()


def stand_in() -> None:
    """Put the stand-ins in; before an app is imported, so that its log handlers write to them too."""
    global _users
    with _installing:
        _users += 1
        for stream in ("stdout", "stderr"):
            original = getattr(sys, stream)
            if original is not None and not isinstance(original, _StandIn):
                setattr(sys, stream, cast(TextIO, _StandIn(stream, original)))


def _stand_down() -> None:
    """Put the streams back, unless another user needs the stand-ins, or other code has replaced them."""
    global _users
    with _installing:
        _users -= 1
        for stream in ("stdout", "stderr"):
            found = getattr(sys, stream)
            if not _users and isinstance(found, _StandIn):
                setattr(sys, stream, found.original)
