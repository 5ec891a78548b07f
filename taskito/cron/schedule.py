"""When a periodic task fires: a cron expression on the clocks of a time zone, and what was missed.

Pure arithmetic: it reads no clock and keeps no state. croniter only ever sees a clock that is
never turned; what turning it means is decided here, once, for every version of croniter.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from taskito.cron import expression as expressions
from taskito_core.errors import ConfigError

CATCH_UP = ("skip", "one", "all")
#: Milliseconds after which a slot was missed. The only worker may be away so long without harm: to
#: stop takes up to 30 s, and then the next one starts.
MISSED_AFTER = 60_000
#: Slots that one call of ``due`` names, at most.
MAX_CATCH_UP = 1000

#: What a time zone database may hold beside the zones: what this machine is set to, nothing, and clocks
#: that count leap seconds.
_NO_ZONES = ("localtime", "posixrules", "factory", "posix/", "right/")
_EPOCH = datetime(1970, 1, 1)
_DAY = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a time zone. Moments are milliseconds since the epoch; fires are whole seconds.

    An expression that names its times of day one by one (``30 2 * * *``) fires once for each: at the end of
    the gap if clocks skip the time, and at the first of two if they show it twice. Any other
    (``*/15 * * * *``) fires whenever a clock on the wall shows a time that matches.

    Raises ConfigError for an expression or a time zone that makes no sense.
    """

    cron: str  #: 5 fields, 6 with seconds first, or an alias such as ``@daily``
    timezone: str = "UTC"  #: a name of the IANA database
    _expression: expressions.Expression = field(init=False, repr=False, compare=False)
    _zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_expression", expressions.parse(self.cron))
        object.__setattr__(self, "_zone", _zone(self.timezone))

    def next_after(self, moment: int) -> int:
        """The first fire later than the moment."""
        after = moment // 1000
        return 1000 * (self._next_fixed(after) if self._expression.fixed else self._next_shown(after))

    def between(self, after: int, until: int, limit: int) -> list[int]:
        """The fires later than ``after`` and not later than ``until``, oldest first, at most ``limit``."""
        fires: list[int] = []
        while len(fires) < limit and (after := self.next_after(after)) <= until:
            fires.append(after)
        return fires

    def last_between(self, after: int, until: int) -> int | None:
        """The last fire later than ``after`` and not later than ``until``; None if there is none."""
        last, low, high = None, after, until
        # By halves: a schedule of seconds that was left alone for a month has millions of slots.
        while low < high:
            middle = (low + high) // 2
            fire = self.next_after(middle)
            if fire <= until:
                last = low = fire
            else:
                high = middle
        return last

    def describe_next(self, now: int, count: int = 3) -> list[str]:
        """The next ``count`` fires as ISO 8601 text on the schedule's clocks, for people to check."""
        described = []
        for _ in range(count):
            now = self.next_after(now)
            described.append(datetime.fromtimestamp(now // 1000, self._zone).isoformat())
        return described

    # ---- in seconds: moments since the epoch, and what a clock on the wall shows as if it were UTC ----

    def _next_fixed(self, after: int) -> int:
        shown = after + self._offset(after)
        while True:
            shown = self._next_on_the_wall(shown)
            if (moment := self._moment(shown)) > after:
                return moment

    def _next_shown(self, after: int) -> int:
        while True:
            offset = self._offset(after)
            moment = self._next_on_the_wall(after + offset) - offset
            turned = self._first_change(after, moment)
            if turned is None:
                return moment
            # The clock is turned before: go on from what it shows then, that very second included.
            after = turned - 1
            offset = self._offset(turned)
            moment = self._next_on_the_wall(after + offset) - offset
            if self._first_change(turned, moment) is None:
                return moment
            after = turned

    def _next_on_the_wall(self, shown: int) -> int:
        calendar = copy.copy(self._expression.calendar)
        calendar.set_current(float(shown), force=True)
        return int(calendar.get_next(float))

    def _moment(self, shown: int) -> int:
        """When a wall clock shows this: the first time, or the end of the gap that it is in."""
        there = _EPOCH + timedelta(seconds=shown)
        early = shown - _seconds(there.replace(tzinfo=self._zone, fold=0))
        late = shown - _seconds(there.replace(tzinfo=self._zone, fold=1))
        if early <= late:
            return early
        # In a gap the two readings are the wrong way round; the clock is turned between them.
        turned = self._first_change(late, early)
        return early if turned is None else turned

    def _offset(self, moment: int) -> int:
        return _seconds(datetime.fromtimestamp(moment, self._zone))

    def _first_change(self, after: int, until: int) -> int | None:
        """The first second in (after, until] with another offset than ``after``; None: there is none."""
        offset = self._offset(after)
        low = after
        while low < until:
            high = min(low + _DAY, until)
            if self._offset(high) != offset:
                return _bisect(low, high, lambda moment: self._offset(moment) != offset)
            low = high
        return None


class Due(NamedTuple):
    """What is to be done about a periodic task that is due."""

    slots: list[int]  #: to be enqueued, oldest first
    next_run: int  #: when it is due again; may have passed if there are very many slots


def due(schedule: Schedule, next_run: int, now: int, catch_up: str) -> Due:
    """Which slots from ``next_run``, the first that was not dealt with, to ``now`` fire.

    ``skip``: the last one, unless it was missed; ``one``: the last one; ``all``: every one, oldest
    first, at most MAX_CATCH_UP at a time. A ``next_run`` that is no slot of the schedule does not fire.
    """
    since = next_run - 1
    if catch_up == "all":
        slots = schedule.between(since, now, MAX_CATCH_UP)
        return Due(slots, schedule.next_after(slots[-1] if slots else now))
    if catch_up == "skip":
        since = max(since, now - MISSED_AFTER)
    last = schedule.last_between(since, now)
    return Due([] if last is None else [last], schedule.next_after(now))


def slot_id(app: str, name: str, slot: int) -> str:
    """The job id of a slot, the same in every worker: a UUID version 7 whose random bits are a hash."""
    tail = int.from_bytes(hashlib.sha256(json.dumps([app, name, slot]).encode()).digest()[:10], "big") >> 6
    head = f"{slot & 0xFFFF_FFFF_FFFF:012x}"
    return f"{head}7{tail >> 62:03x}{tail & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000:016x}"


def _seconds(moment: datetime) -> int:
    offset = moment.utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def _bisect(low: int, high: int, changed: Callable[[int], bool]) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        if changed(middle):
            high = middle
        else:
            low = middle
    return high


def _zone(name: object) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    if name == "UTC":
        return UTC
    if isinstance(name, str) and name.lower().startswith(_NO_ZONES):
        raise ConfigError(
            f"timezone must be a name such as 'Europe/Berlin', got {name!r}, "
            "which another machine may read otherwise"
        )
    try:
        if isinstance(name, str):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = available_timezones()
    if not known:
        raise ConfigError(
            f"timezone {name!r} cannot be looked up: install tzdata, this system has none"
        ) from None
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"timezone must be a name such as 'Europe/Berlin', got {name!r}{hint}") from None
