"""The nesting of a group's jobs, and of their results: what a running job is given of a group before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: One job's id, or those of several in order, nested as the groups are.
Shape = str | list[Any]


def leaves(shape: Shape) -> Iterator[str]:
    """The ids in it, in order."""
    if isinstance(shape, str):
        yield shape
    else:
        for part in shape:
            yield from leaves(part)


def filled(shape: Shape, values: dict[str, Any]) -> Any:
    """The same with values in place of their ids."""
    return values[shape] if isinstance(shape, str) else [filled(part, values) for part in shape]
