"""What a cron expression may say: croniter's reading of it, without what croniter forgives.

Whatever would fire at other times than its author meant is refused here, where it is written.
croniter is imported on first use: a program that only enqueues has no need of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from taskito_core.errors import ConfigError

if TYPE_CHECKING:
    from croniter import croniter

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class _Field(NamedTuple):
    name: str
    expected: str
    size: int  #: how many values it has


FIELDS = (
    _Field("second", "0-59", 60),
    _Field("minute", "0-59", 60),
    _Field("hour", "0-23", 24),
    _Field("day of the month", "1-31, L for the last one, or 15W for the working day nearest to it", 31),
    _Field("month", "1-12 or jan-dec", 12),
    _Field("weekday", "0-7 or sun-sat, 1#2 for the second Monday, or L5 for the last Friday", 7),
)
_DAY, _WEEKDAY = 3, 5

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMES = {
    **{name: number for number, name in enumerate(_DAYS)},
    **{name: number for number, name in enumerate(_MONTHS, start=1)},
    "l": 31,
}
_RANGE = re.compile(r"(\w+)-(\w+)(?:[/#]\d+)?")
_STEP = re.compile(r".+/(\d+)")
_FIXED = re.compile(r"[\d,]+")
_EVERY_DAY = ("*", "?")
#: croniter reads one of these, but not as one of two alternatives.
_SPECIAL_DAY = re.compile(r"#|\dw|w\d|l\d")


class Expression(NamedTuple):
    """A cron expression that makes sense."""

    calendar: croniter  #: names the matching times of a clock that is never turned; copy before use
    fixed: bool  #: names times of day one by one, without wildcard, range or step


def parse(cron: str) -> Expression:
    """Read ``cron``: 5 fields, 6 with seconds first, or an alias such as ``@daily``.

    Raises ConfigError for anything else, and for a date that never comes.
    """
    from croniter import croniter

    fields = _fields(cron)
    for index, (field, text) in enumerate(zip(FIELDS, fields, strict=True)):
        _check(cron, index, field, text)
    day, weekday = fields[_DAY], fields[_WEEKDAY]
    if day not in _EVERY_DAY and weekday not in _EVERY_DAY and _SPECIAL_DAY.search(f"{day} {weekday}"):
        raise ConfigError(
            f"cron {cron!r} must not join {day!r} and {weekday!r}, of which one would be ignored; "
            "make two schedules, each with * for the other field"
        )
    calendar = croniter(" ".join(fields), 0.0, second_at_beginning=True)
    try:
        calendar.get_next(float, update_current=False)
    except ValueError as exc:
        raise ConfigError(f"cron {cron!r} must name a date that comes, and this one never does") from exc
    return Expression(calendar, all(_FIXED.fullmatch(text) for text in fields[:_DAY]))


def _fields(cron: object) -> list[str]:
    """Always six, seconds first, in lower case."""
    if not isinstance(cron, str) or not cron.strip():
        raise ConfigError(f"cron must be text such as '*/5 * * * *' or '@daily', got {cron!r}")
    if not (cron.isascii() and cron.isprintable()):
        raise ConfigError(f"cron must be plain ASCII text on one line, spaces between fields, got {cron!r}")
    text = cron.strip().lower()
    if text.startswith("@"):
        if text not in ALIASES:
            raise ConfigError(f"cron must be one of {', '.join(ALIASES)}, or fields, got {cron!r}")
        text = ALIASES[text]
    fields = text.split()
    if len(fields) == 5:
        return ["0", *fields]
    if len(fields) != 6:
        raise ConfigError(
            "cron must have 5 fields (minute, hour, day, month, weekday), or 6 with seconds first, "
            f"got {len(fields)} in {cron!r}"
        )
    return fields


def _check(cron: str, index: int, field: _Field, text: str) -> None:
    """Raise ConfigError unless ``text`` alone, all else being ``*``, is a value of this field."""
    from croniter import croniter

    where = f"the {field.name} of cron {cron!r}"
    alone = ["*"] * len(FIELDS)
    alone[index] = text
    items = text.split(",")
    try:
        # H and R are croniter's own: a value by hash, and one at random at each reading.
        if any(item.startswith(("h", "r")) for item in items):
            raise ValueError(text)
        croniter.expand(" ".join(alone), second_at_beginning=True)
    except ValueError as exc:
        words = f"{field.expected}, or *, lists, ranges, steps"
        raise ConfigError(f"{where} must be {words}, got {text!r}") from exc
    for item in items:
        bounds = _RANGE.fullmatch(item)
        # To croniter 22-6 goes over midnight, and 5-5 is every value there is.
        if bounds and not _number(bounds[1]) < _number(bounds[2], ends=True):
            raise ConfigError(
                f"{where} must have ranges that go up, got {item!r}; "
                "one over the end is written as two, 22-23,0-6"
            )
        step = _STEP.fullmatch(item)
        if step and int(step[1]) > field.size:
            raise ConfigError(
                f"{where} must have steps of at most {field.size}, got {item!r}: "
                "steps are counted anew from each field's start"
            )


def _number(value: str, ends: bool = False) -> int:
    """What a range's bound means; Sunday is the week's last day if a range ends with it."""
    if ends and value == "sun":
        return 7
    return _NAMES[value] if value in _NAMES else int(value)
