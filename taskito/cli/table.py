"""Lists as tables: plain aligned text, which on a terminal is as wide as that."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

from taskito.config.text import cut, one_line, width

#: Places that a column keeps while another has more, and however narrow the terminal is.
LEAST, LEAST_OF_ALL = 8, 5
#: Characters that a short id has at least: those that tell the millisecond it was made in.
SHORT_ID = 12
_GAP = "  "
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d")


def aligned(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Rows of cells as lines, columns padded to their widest cell; numbers stand on the right.

    The first row has the heads. On a terminal long cells are cut so that the lines fit, and a first column
    with the head ``id`` or ``job`` has the beginnings of ids that tell its jobs apart.
    """
    texts = [[one_line(str(cell)) for cell in row] for row in rows]
    places = shutil.get_terminal_size().columns if _to_terminal() else None
    if places is not None and texts[0][0] in ("id", "job"):
        for row, short in zip(texts[1:], short_ids([row[0] for row in texts[1:]]), strict=True):
            row[0] = short
    widths = [max(width(row[column]) for row in texts) for column in range(len(texts[0]))]
    right = [isinstance(cell, int) for cell in rows[-1]]
    if places is not None:
        # Ids are cut short enough, and a number that is cut is another number. A moment is cut last.
        loose = [at for at, head in enumerate(texts[0]) if not right[at] and head not in ("id", "job")]
        texts_only = [at for at in loose if not any(_MOMENT.fullmatch(row[at]) for row in texts[1:])]
        room = places - len(_GAP) * (len(widths) - 1)
        _shrink(widths, texts_only, LEAST, room)
        _shrink(widths, loose, LEAST_OF_ALL, room)
    for row in texts:
        cells = [
            " " * (places - width(cell)) + cell if on_right else cell + " " * (places - width(cell))
            for cell, places, on_right in zip(map(cut, row, widths), widths, right, strict=True)
        ]
        yield _GAP.join(cells).rstrip()


def short_ids(ids: Sequence[str]) -> list[str]:
    """The beginnings of these ids, all equally long, that tell them apart."""
    ordered = sorted(set(ids))
    # Ids in order: one that shares most with another stands beside it.
    shared = (_shared(one, other) for one, other in pairwise(ordered))
    length = max(SHORT_ID, 1 + max(shared, default=0))
    return [one[:length] for one in ids]


def _shared(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


def _to_terminal() -> bool:
    return sys.stdout.isatty()


def _shrink(widths: list[int], loose: Sequence[int], least: int, room: int) -> None:
    """Take from the widest of these columns until all fit, or none of these has more than ``least``."""
    while (excess := sum(widths) - room) > 0:
        wide = sorted((at for at in loose if widths[at] > least), key=widths.__getitem__)
        if not wide:
            return
        next_widest = widths[wide[-2]] if len(wide) > 1 else least
        width_now = widths[wide[-1]]
        widths[wide[-1]] = max(least, width_now - excess, min(next_widest, width_now - 1))
