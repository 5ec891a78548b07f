"""How far jobs are, shown live: a bar if rich is installed and a person reads, else a line a second."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Protocol

from taskito.client.results.watched import EndCount

if TYPE_CHECKING:
    import rich.progress

#: Seconds over which a rate is measured.
WINDOW = 10.0
#: Seconds between two lines; between two that say the same.
EACH, SAME = 1.0, 10.0


class EndRate:
    """How many jobs end in a second, as of late, and how long the rest will take."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self.count = EndCount(0, 0, 0)

    def add(self, count: EndCount, now: float) -> None:
        self.count = count
        self._seen.append((now, count.ended))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Jobs a second; 0.0 if it is not known."""
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - began) if now > began else 0.0

    @property
    def remaining(self) -> timedelta | None:
        """None: unknown."""
        left, rate = self.count.total - self.count.ended, self.rate
        if left and rate <= 0:
            return None
        return timedelta(seconds=round(left / rate) if left else 0)

    def __str__(self) -> str:
        """``12 of 100 jobs, 1 failed, 3.5/s, 0:00:25 left``"""
        count = self.count
        failed = f", {count.failed} failed" if count.failed else ""
        text = f"{count.ended} of {count.total} {'job' if count.total == 1 else 'jobs'}{failed}"
        if not count.over:
            left = "" if self.remaining is None else f", {self.remaining} left"
            text += f", {self.rate:.1f}/s{left}"
        return text


class Display(Protocol):
    """Where it is shown."""

    def show(self, count: EndCount) -> None: ...


class _Lines:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._rate = EndRate()
        self._last = (0.0, EndCount(-1, -1, -1))

    def show(self, count: EndCount) -> None:
        now = time.monotonic()
        self._rate.add(count, now)
        at, said = self._last
        if (count != said and (count.over or now >= at + EACH)) or now >= at + SAME:
            self._last = now, count
            print(self._rate, file=self._stream, flush=True)


class _Bar:
    def __init__(self, progress: rich.progress.Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, said="")
        self._rate = EndRate()

    def show(self, count: EndCount) -> None:
        self._rate.add(count, time.monotonic())
        said = str(self._rate)
        self._progress.update(self._task, total=count.total, completed=count.ended, said=said)


class _NoDisplay:
    def show(self, count: EndCount) -> None: ...


def print_bar(rate: EndRate, stream: IO[str]) -> None:
    """One line: the bar, if there can be one, and its words."""
    count = rate.count
    if _can_draw(stream):
        from rich.console import Console
        from rich.progress_bar import ProgressBar

        bar = ProgressBar(total=max(1, count.total), completed=count.ended if count.total else 1, width=40)
        Console(file=stream).print(bar, end="  ")
    print(rate, file=stream, flush=True)


def _can_draw(stream: IO[str]) -> bool:
    if not stream.isatty():
        return False
    try:
        import rich.progress
    except ImportError:
        return False
    return bool(rich.progress)


@contextmanager
def open_display(shown: bool = True, stream: IO[str] | None = None) -> Iterator[Display]:
    """Shows on ``stream`` (standard error) as long as the block lasts."""
    stream = sys.stderr if stream is None else stream
    if not shown:
        yield _NoDisplay()
        return
    if not _can_draw(stream):
        yield _Lines(stream)
        return
    import rich.progress
    from rich.console import Console

    columns = rich.progress.BarColumn(), rich.progress.TextColumn("{task.fields[said]}", markup=False)
    with rich.progress.Progress(*columns, console=Console(file=stream)) as progress:
        yield _Bar(progress)
