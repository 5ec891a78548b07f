"""What becomes of a process that imports the app and does not come to an end with it."""

from __future__ import annotations

import logging
import re
import signal
from typing import Protocol

from taskito.worker.children.trace import Trace
from taskito.worker.ipc import platform

log = logging.getLogger("taskito.worker")

#: Seconds after which it is said where an import is.
SLOW_AFTER = 5.0
#: Seconds between two checks whether a process has written its stack, and for how long it may.
WRITE_TIME, LONGEST_WRITE = 0.1, 1.0
_NEVER = float("inf")
_IMPORT_MACHINERY = re.compile(r'^  File "(<frozen importlib|.*/importlib/__init__\.py").*\n?', re.MULTILINE)
_CURRENT_THREAD = re.compile(r"^Current thread .*\n", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


class ImportingProcess(Protocol):
    """The process."""

    @property
    def pid(self) -> int: ...

    @property
    def stack(self) -> Trace: ...

    def signal(self, signum: signal.Signals) -> None: ...


class ImportWatch:
    """Says after five seconds where an import is, and after the boot timeout that it is given up."""

    def __init__(self, app: str, process: ImportingProcess, boot_timeout: float, now: float) -> None:
        self._app = app
        self._process = process
        self._boot_timeout = boot_timeout
        self._slow_at = now + SLOW_AFTER
        self._give_up_at = now + boot_timeout
        self._read_at = self._read_by = _NEVER
        self.fault: str | None = None  #: why it is to be ended
        self.stack_text: str | None = None  #: where it was then

    def next_deadline(self) -> float:
        """When ``advance`` has something to do next; infinity: never."""
        return self._read_at if self._read_at < _NEVER else min(self._slow_at, self._give_up_at)

    def advance(self, now: float) -> bool:
        """Do what is due; True: the process is to be ended now."""
        if now < self.next_deadline():
            return False
        if self._read_at == _NEVER:
            self._process.stack.clear()
            # The app may have undone what we catch, and the process would die of it.
            if asked := platform.catches(self._process.pid, signal.SIGUSR1):
                self._process.signal(signal.SIGUSR1)
            self._read_at = now + WRITE_TIME if asked else now
            self._read_by = now + LONGEST_WRITE
            return not asked and self._read(now)
        return self._read(now)

    def _read(self, now: float) -> bool:
        stack = self._process.stack.text()
        if stack is None and self._read_at < now < self._read_by:
            self._read_at = now + WRITE_TIME
            return False
        self._read_at = self._slow_at = _NEVER
        place, shown = where(stack)
        if now >= self._give_up_at:
            self._give_up_at = _NEVER
            self.fault = f"importing it did not end within {self._boot_timeout:g} s{place}"
            self.stack_text = shown
            return True
        stack_lines = f"\n{shown}" if shown else ""
        log.warning("importing %s takes longer than %g s%s%s", self._app, SLOW_AFTER, place, stack_lines)
        return False


def where(stack: str | None) -> tuple[str, str | None]:
    """What the end of a sentence says of the stack of an import, and the stack to be shown below it.

    The place is the line of a module that the main thread is at, or whatever it is at.
    """
    if stack is None:
        return "", None
    shown = _IMPORT_MACHINERY.sub("", stack).strip()
    start = found.end() if (found := _CURRENT_THREAD.search(shown)) else 0
    frames = _FRAME.findall(shown[start:])
    in_modules = [frame for frame in frames if frame[2] == "<module>"]
    for file, line, _ in (in_modules or frames)[:1]:
        return f": it is at line {line} of {file}", shown
    return "", shown
