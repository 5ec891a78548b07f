"""Plain aligned text for lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime


def aligned(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Rows of cells as lines, columns padded to their widest cell; numbers stand on the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    right = [isinstance(cell, int) for cell in rows[-1]]
    for row in texts:
        cells = [
            cell.rjust(width) if on_right else cell.ljust(width)
            for cell, width, on_right in zip(row, widths, right, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def moment(milliseconds: int | None) -> str:
    """A moment as people read it, in UTC."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
