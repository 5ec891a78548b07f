"""The stacks that a process writes with faulthandler, into a file that the supervisor reads."""

from __future__ import annotations

import os
from pathlib import Path

import taskito_core
from taskito.worker.ipc.slots import anonymous_file
from taskito_core.job import clean_text

_CAP = 16 * 1024
#: How faulthandler begins the list of one thread's frames, and our own lines in it.
_FIRST_FRAME = "(most recent call first):"
_OWN_FRAMES = (
    f'  File "{Path(__file__).parents[2]}{os.sep}',
    f'  File "{Path(taskito_core.__file__).parent}{os.sep}',
    '  File "<frozen runpy>',
)


class Trace:
    """The file of one process."""

    def __init__(self) -> None:
        self.fd = anonymous_file("taskito-trace")

    def text(self) -> str | None:
        """What was written: the last part, if it is long."""
        size = os.fstat(self.fd).st_size
        text = os.pread(self.fd, _CAP, max(0, size - _CAP)).decode(errors="replace")
        return clean_text(own_frames_removed(text)) if text.strip() else None

    def clear(self) -> None:
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)

    def close(self) -> None:
        os.close(self.fd)


def own_frames_removed(stacks: str) -> str:
    """What faulthandler wrote, without the worker's own frames and the threads that have no others."""
    threads: list[list[str]] = [[]]
    for line in stacks.splitlines():
        if not line.startswith("  File "):
            threads.append([line])
        elif not line.startswith(_OWN_FRAMES):
            threads[-1].append(line)
    kept = [lines for lines in threads if len(lines) > 1 or not "".join(lines).endswith(_FIRST_FRAME)]
    return "\n".join(line for lines in kept for line in lines) or stacks
