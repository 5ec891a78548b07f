"""What people read on a terminal: moments in their time zone, and no character that steers the terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: What colours text, moves the cursor or sets a title: CSI and OSC sequences, and the rest that ESC begins.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]", re.DOTALL)
#: Control characters but tab and newline, and those that reverse the direction of what follows.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


#: Fields that are moments, besides those that end in ``_at``.
_MOMENTS = frozenset({"last_seen", "next_run", "last_run"})


def moment(when: float | str | None) -> str:
    """A moment for people: local time to the second, with its distance from UTC; '' if there is none.

    ``when``: epoch milliseconds, or a text of ``show_moments``.
    """
    if when is None:
        return ""
    if isinstance(when, str):
        found = datetime.fromisoformat(when)
    else:
        found = datetime.fromtimestamp(when / 1000, UTC)
    return found.astimezone().isoformat(" ", "seconds")


def show_moments(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON has it: its moments, in epoch milliseconds, as ISO 8601 in UTC."""
    return {
        name: datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds")
        if value is not None and (name.endswith("_at") or name in _MOMENTS)
        else value
        for name, value in record.items()
    }


def printable(text: str) -> str:
    """The text without what would steer a terminal; lines and tabs stay, other controls become codes."""
    return _CONTROL.sub(_code, _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    """The same in one line."""
    return " ".join(printable(text).split())


def width(text: str) -> int:
    """How many places of a terminal it takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def cut(text: str, places: int) -> str:
    """As much of it as these places take; an ellipsis stands for the rest."""
    if width(text) <= places:
        return text
    kept = text[: max(places - 1, 0)]
    while kept and width(kept) > places - 1:
        kept = kept[:-1]
    return kept + "…"


def _code(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}"
