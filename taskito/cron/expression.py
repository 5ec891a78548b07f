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
    first: int  #: the smallest of them

    @property
    def last(self) -> int:
        return self.first + self.size - 1


FIELDS = (
    _Field("second", "0-59", 60, 0),
    _Field("minute", "0-59", 60, 0),
    _Field("hour", "0-23", 24, 0),
    _Field("day of the month", "1-31, L for the last one, or 15W for the working day nearest to it", 31, 1),
    _Field("month", "1-12 or jan-dec", 12, 1),
    _Field("weekday", "0-7 or sun-sat, 1#2 for the second Monday, or L5 for the last Friday", 7, 0),
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
_STEP_FROM = re.compile(r"(\w+)/\d+")
_FIXED = re.compile(r"[\d,]+")
_EVERY_DAY = ("*", "?")
#: croniter reads one of these, but not as one of two alternatives.
_SPECIAL_DAY = re.compile(r"#|\dw|w\d|l\d")
#: Days that some months do not have: croniter takes their last working day then.
_LATE_WORKING_DAY = re.compile(r"(29|30|31)w|w(29|30|31)")


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
    given = enumerate(zip(FIELDS, fields, strict=True))
    whole = [_check(cron, index, field, text) for index, (field, text) in given]
    if fields[_DAY] not in _EVERY_DAY and fields[_WEEKDAY] not in _EVERY_DAY:
        _check_days(cron, fields, whole[_DAY], whole[_WEEKDAY])
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


def _check_days(cron: str, fields: list[str], every_day: bool, every_weekday: bool) -> None:
    """Raise ConfigError if ``cron``, in which neither day field is a mere ``*``, has more than one reading.

    ``every_day``, ``every_weekday``: that field, however it is written, leaves no day out.
    """
    day, weekday = fields[_DAY], fields[_WEEKDAY]
    by_day, by_weekday = _shown(fields, weekday="*"), _shown(fields, day="*")
    joined = f"cron {cron!r} must not join {day!r} and {weekday!r}"
    if _SPECIAL_DAY.search(f"{day} {weekday}"):
        raise ConfigError(
            f"{joined}, of which one would be ignored; make two schedules, {by_day!r} and {by_weekday!r}"
        )
    if "*" not in day + weekday or (every_day and every_weekday):
        return
    # croniter joins a step over a star as any other value; most programs as a star, which narrows nothing.
    readings = f"{joined}, which may mean days that match either or days that match both"
    if every_day or every_weekday:
        either, both = _shown(fields, day="*", weekday="*"), by_weekday if every_day else by_day
        raise ConfigError(f"{readings}; write {either!r} for either, {both!r} for both")
    raise ConfigError(
        f"{readings}; make two schedules for either, {by_day!r} and {by_weekday!r}, "
        "or one of them for both, whose task checks the other"
    )


def _shown(fields: list[str], day: str | None = None, weekday: str | None = None) -> str:
    """The expression of these fields with another day field or two, without seconds if they are 0."""
    second, minute, hour, old_day, month, old_weekday = fields
    shown = [minute, hour, day or old_day, month, weekday or old_weekday]
    return " ".join(shown if second == "0" else [second, *shown])


def _check(cron: str, index: int, field: _Field, text: str) -> bool:
    """True if ``text`` is every value of this field. Raises ConfigError unless it has one meaning there."""
    from croniter import croniter

    where = f"the {field.name} of cron {cron!r}"
    alone = ["*"] * len(FIELDS)
    alone[index] = text
    items = text.split(",")
    try:
        # H and R are croniter's own: a value by hash, and one at random at each reading.
        if any(item.startswith(("h", "r")) for item in items):
            raise ValueError(text)
        # In croniter's own order seconds come last.
        expanded = croniter.expand(" ".join(alone), second_at_beginning=True)[0][(index - 1) % len(FIELDS)]
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
        start = _STEP_FROM.fullmatch(item)
        if start and _number(start[1]) > field.first:
            # To some programs 7/3 is 7 alone; to croniter, as a weekday, Sunday, Wednesday and Saturday.
            goes_on = _number(start[1]) < field.last
            instead = item.replace("/", f"-{field.last}/") if goes_on else start[1]
            raise ConfigError(f"{where} must say where its steps end, got {item!r}; write {instead!r}")
        if _LATE_WORKING_DAY.fullmatch(item):
            raise ConfigError(
                f"{where} must have W with a day of every month, 1W to 28W, got {item!r}: "
                "for months without that day it would be another; L is the last day"
            )
    return bool(expanded[0] == "*")


def _number(value: str, ends: bool = False) -> int:
    """What a range's bound means; Sunday is the week's last day if a range ends with it."""
    if ends and value == "sun":
        return 7
    return _NAMES[value] if value in _NAMES else int(value)
