"""Threads that Python knows nothing of: which there are after the import, and which library made them.

A forked process has none of its parent's threads; a library that does not know that waits for them for ever.
"""

from __future__ import annotations

import bisect
import os
import re
import struct
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

_TASKS = "/proc/self/task"
#: Libraries that end their threads before a fork and start them anew after it (``pthread_atfork``).
_FORK_SAFE = re.compile("openblas", re.IGNORECASE)
#: What threads share with those who made them, and what many libraries make them with.
_COMMON = re.compile(
    r"(libc|libpthread|ld-linux[^/]*|ld-musl[^/]*|linux-vdso|libgcc_s|libstdc\+\+)[-.\d]*\.so"
)
#: Others of which it is known that they keep threads. Asked only where a thread's stack cannot be read.
_THREADED = re.compile("libgomp|libomp|libiomp|libtbb|libmkl|polars|libarrow", re.IGNORECASE)
#: So much of a stack, at its older end, is searched for those who called.
_OLDEST = 256 * 1024
#: Seconds that threads which are about to end are given for that.
_PATIENCE = 0.3
_WORD = struct.calcsize("P")


class NativeThread(NamedTuple):
    """One that the kernel sees and ``threading`` does not."""

    name: str
    library: str  #: file name of what started it; "": it cannot be told


def unfit_for_fork() -> list[NativeThread]:
    """Those whose library would miss them in a forked child; [] where the system does not tell."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = [thread for thread in native_threads() if not _FORK_SAFE.search(thread.library)]
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(0.02)


def described(threads: Iterable[NativeThread]) -> list[str]:
    """``libgomp.so.1 (python, python)``: the threads of each library."""
    names: dict[str, list[str]] = {}
    for thread in threads:
        names.setdefault(thread.library or "an unknown library", []).append(thread.name)
    return [f"{library} ({', '.join(sorted(found))})" for library, found in sorted(names.items())]


def native_threads() -> list[NativeThread]:
    """All of this process but the main thread and those of ``threading``."""
    try:
        ids = {int(name) for name in os.listdir(_TASKS)}
    except OSError:
        return []
    ids -= {thread.native_id or 0 for thread in threading.enumerate()} | {
        os.getpid(),
        threading.get_native_id(),
    }
    if not ids:
        return []
    mapped = _Mapped()
    found = []
    for number in sorted(ids):
        try:
            name = _read(f"{_TASKS}/{number}/comm")
        except OSError:
            continue  # It has ended.
        found.append(NativeThread(name, _library_of(number, mapped)))
    return found


class _Mapped:
    """What is mapped into this process."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, str]] = []  #: begin, end, path of executable files
        self._all: list[tuple[int, int]] = []
        for line in _read("/proc/self/maps").splitlines():
            fields = line.split(maxsplit=5)
            begin, end = (int(word, 16) for word in fields[0].split("-"))
            self._all.append((begin, end))
            if "x" in fields[1] and len(fields) > 5 and fields[5].startswith("/"):
                self._ranges.append((begin, end, fields[5]))
        self._begins = [begin for begin, _, _ in self._ranges]

    @property
    def libraries(self) -> list[str]:
        return sorted({os.path.basename(path) for _, _, path in self._ranges})

    def library_at(self, address: int) -> str | None:
        """The file that this is code of, if it is."""
        at = bisect.bisect_right(self._begins, address) - 1
        if at < 0 or address >= self._ranges[at][1]:
            return None
        return os.path.basename(self._ranges[at][2])

    def end_of(self, address: int) -> int:
        """Where the mapping that this is in ends. Raises StopIteration if there is none."""
        return next(end for begin, end in self._all if begin <= address < end)


def _library_of(number: int, mapped: _Mapped) -> str:
    """The library that started this thread: the oldest caller on its stack that is not of the system's."""
    try:
        pointer = int(_read(f"{_TASKS}/{number}/syscall").split()[-2], 16)
        end = mapped.end_of(pointer)
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            begin = max(pointer, end - _OLDEST)
            memory.seek(begin)
            stack = memory.read(end - begin)
    except (OSError, ValueError, IndexError, StopIteration):
        # It runs this very moment, or the system does not tell.
        return _guess(mapped.libraries)
    words = struct.unpack_from(f"{len(stack) // _WORD}P", stack)
    for word in reversed(words):
        library = mapped.library_at(word)
        if library is not None and not _COMMON.match(library):
            return library
    return _guess(mapped.libraries)


def _guess(libraries: list[str]) -> str:
    """By what is mapped: the one library that keeps threads, if it is one."""
    threaded = [name for name in libraries if _THREADED.search(name) or _FORK_SAFE.search(name)]
    return threaded[0] if len(threaded) == 1 else ""


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
