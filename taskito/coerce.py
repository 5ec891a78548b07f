"""Checks of single values: each function takes text, TOML or Python and returns what it means.

The functions that read a value raise ValueError or TypeError for one that means nothing; ``checked`` makes a
ConfigError of that, with the name of the value.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from taskito_core.errors import ConfigError
from taskito_core.job import FOREVER

T = TypeVar("T")

MOST = 2**31 - 1  #: whole numbers end here, because the stores' smallest integer column does
#: Seconds; a longer duration overflows the stores' milliseconds sooner or later.
_CENTURY = 100 * 366 * 86400.0
_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|m|h|d|)")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def checked(what: str, expected: str, read: Callable[[object], T], value: object) -> T:
    """``read(value)``; a ConfigError that says what ``what`` must be if the value means nothing."""
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{what} must be {expected}, got {value!r}") from None


def optional(convert: Callable[[object], T]) -> Callable[[object], T | None]:
    """None, and the text ``none`` in any case, mean None; all else is ``convert``'s."""

    def read(value: object) -> T | None:
        if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
            return None
        return convert(value)

    return read


def maybe(convert: Callable[[object], T]) -> Callable[[object], T | None]:
    """Only None means None; the text ``none`` says something else and is ``convert``'s."""
    return lambda value: None if value is None else convert(value)


def integer(least: int, most: int = MOST) -> Callable[[object], int]:
    """Whole numbers from ``least`` to ``most``, not as text. True is not 1 here: it is a slip."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(type(value).__name__)
        if not least <= value <= most:
            raise ValueError(value)
        return int(value)

    return read


def whole(least: int, most: int = MOST) -> Callable[[object], int]:
    """The same, also as text."""
    read = integer(least, most)
    return lambda value: read(int(value) if isinstance(value, str) else value)


def duration(value: object) -> float:
    """Seconds, 0 or more and finite; also a timedelta, or text with a unit: ``90``, ``1.5h``, ``250ms``."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, str):
        match = _DURATION.fullmatch(value.strip().lower())
        if match is None:
            raise ValueError(value)
        value = float(match[1]) * _UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(type(value).__name__)
    seconds = float(value)
    if not (math.isfinite(seconds) and 0.0 <= seconds <= _CENTURY):
        raise ValueError(seconds)
    return seconds


def span(value: object) -> float:
    """A duration above 0."""
    seconds = duration(value)
    if not seconds:
        raise ValueError(value)
    return seconds


def lifetime(value: object) -> float:
    """A duration; infinity and the text ``forever`` are FOREVER."""
    never_ends = value == math.inf or (isinstance(value, str) and value.strip().lower() == "forever")
    return FOREVER if never_ends else duration(value)


def limit(value: object) -> float:
    """A duration that bounds something; 0 and None both say that nothing bounds it."""
    return optional(duration)(value) or 0.0


def boolean(value: object) -> bool:
    if not isinstance(value, str | int):
        raise TypeError(type(value).__name__)
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(value)
    return word in _TRUE


def anything(value: object) -> str:
    """Any text, also an empty one: its user checks it."""
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def text(value: object) -> str:
    """Text that says something."""
    found = anything(value).strip()
    if not found:
        raise ValueError(value)
    return found


def name(value: object) -> str:
    """A word, compared in lower case."""
    return text(value).lower()


def path(value: object) -> str:
    """A file's path as text."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if "\0" in anything(found) or not anything(found).strip():
        raise ValueError(found)
    return anything(found)


def choice(*allowed: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        found = name(value)
        if found not in allowed:
            raise ValueError(value)
        return found

    return read


def names(value: object) -> tuple[str, ...]:
    """A list of words: a sequence of text, or text with commas between. May be empty."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    if not isinstance(value, list | tuple | set | frozenset):
        raise TypeError(type(value).__name__)
    return tuple(text(word) for word in value)
