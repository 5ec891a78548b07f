"""When a schedule fires: a cron expression on the clocks of a time zone.

Pure arithmetic: it reads no clock and keeps no state. croniter only ever sees a clock that is
never turned; what turning it means is decided here, once, and does not change with croniter.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from taskito_core.cron import Expression, parse_cron
from taskito_core.errors import ConfigError

_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_DAY = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a time zone. Moments are milliseconds since the epoch, and fires whole seconds.

    An expression that lists its times of day one by one (``30 2 * * *``) fires once for each: when the
    gap ends if clocks skip the time, and the first time if they show it twice. Any other
    (``*/15 * * * *``) fires whenever the clock shows a time that matches.

    Raises ConfigError for an expression or a time zone that makes no sense.
    """

    cron: str  #: 5 fields, 6 with seconds first, or an alias such as ``@daily``
    timezone: str = "UTC"  #: a name of the IANA database
    _expression: Expression = field(init=False, repr=False, compare=False)
    _zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_expression", parse_cron(self.cron))
        object.__setattr__(self, "_zone", _zone(self.timezone))

    def next_after(self, moment_ms: int) -> int:
        """The first fire later than the moment."""
        after = moment_ms // 1000
        return 1000 * (self._next_fixed(after) if self._expression.fixed else self._next_shown(after))

    def between(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """The first ``limit`` fires later than ``after_ms`` and not later than ``until_ms``, oldest first."""
        fires: list[int] = []
        while len(fires) < limit and (after_ms := self.next_after(after_ms)) <= until_ms:
            fires.append(after_ms)
        return fires

    def last_between(self, after_ms: int, until_ms: int) -> int | None:
        """The last fire later than ``after_ms`` and not later than ``until_ms``; None if there is none."""
        last, low, high = None, after_ms, until_ms
        # By halves: a schedule of seconds that nobody looked at for a month has fired millions of times.
        while low < high:
            middle = (low + high) // 2
            fire = self.next_after(middle)
            if fire <= until_ms:
                last = low = fire
            else:
                high = middle
        return last

    def describe_next(self, now_ms: int, count: int = 3) -> list[str]:
        """The next ``count`` fires as ISO 8601 text on the schedule's own clock, for people to check."""
        described = []
        for _ in range(count):
            now_ms = self.next_after(now_ms)
            described.append(datetime.fromtimestamp(now_ms // 1000, self._zone).isoformat())
        return described

    # ---- in whole seconds; a wall is what the clock shows, counted as if the clock were of UTC ----

    def _next_fixed(self, after: int) -> int:
        """Each wall fires once. In the order of walls these moments never go back, so none is before ours."""
        walls = self._walls(after + self._offset_at(after))
        return next(fire for wall in walls if (fire := self._first_moment(wall)) > after)

    def _next_shown(self, after: int) -> int:
        """Each matching wall fires as often as the clock shows it: not at all, once or twice."""
        fire = self._shown_after(after, after + self._offset_at(after))
        seam = self._turned_back_after(after)
        if seam is not None and seam <= fire:
            # From the seam on the clock repeats walls up to ours, which the search above began after.
            fire = self._shown_after(seam - 1, seam - 1 + self._offset_at(seam))
        return fire

    def _shown_after(self, after: int, wall: int) -> int:
        """The first moment later than ``after`` at which a matching wall later than ``wall`` is shown."""
        moments = (moment for match in self._walls(wall) for moment in self._moments(match))
        return next(moment for moment in moments if moment > after)

    def _walls(self, wall: int) -> Iterator[int]:
        """Every matching wall later than ``wall``, without end."""
        # A copy, because croniter's own remembers where it is and a schedule may be shared by threads.
        calendar = copy.copy(self._expression.calendar)
        calendar.set_current(float(wall))
        while True:
            yield int(calendar.get_next(float))

    def _moments(self, wall: int) -> tuple[int, ...]:
        """When the clock shows ``wall``: once as a rule, twice if it is turned back over it, or never."""
        # PEP 495: fold 0 reckons with the offset before the clock is turned, fold 1 with the one after.
        before, after = wall - self._offset_on(wall, 0), wall - self._offset_on(wall, 1)
        if before == after:
            return (before,)
        return (before, after) if before < after else ()

    def _first_moment(self, wall: int) -> int:
        """When the clock shows ``wall`` first; if it skips it, when the gap ends."""
        moments = self._moments(wall)
        if moments:
            return moments[0]
        return self._turn_between(wall - self._offset_on(wall, 1), wall - self._offset_on(wall, 0))

    def _turned_back_after(self, moment: int) -> int | None:
        """The first second on the new time, if the clock is turned back within a day of ``moment``."""
        if self._offset_at(moment + _DAY) >= self._offset_at(moment):
            return None
        return self._turn_between(moment, moment + _DAY)

    def _turn_between(self, low: int, high: int) -> int:
        """The first second with the offset of ``high``; the clock is turned once, after ``low``."""
        offset = self._offset_at(high)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset_at(middle) == offset:
                high = middle
            else:
                low = middle
        return high

    def _offset_at(self, moment: int) -> int:
        return _seconds(datetime.fromtimestamp(moment, self._zone))

    def _offset_on(self, wall: int, fold: int) -> int:
        return _seconds((_EPOCH + wall * _SECOND).replace(tzinfo=self._zone, fold=fold))


def _seconds(clock: datetime) -> int:
    """How far ``clock`` is ahead of UTC."""
    offset = clock.utcoffset()
    return 0 if offset is None else offset // _SECOND


def _zone(name: object) -> tzinfo:
    if name == "UTC":
        return UTC  # also on a machine without a database of time zones
    import zoneinfo

    try:
        if isinstance(name, str):
            return zoneinfo.ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        pass  # unknown, not a name at all, or a directory of the database
    known = zoneinfo.available_timezones()
    if not known:
        raise ConfigError(
            f"timezone must be 'UTC' where no time zone database is installed, got {name!r}; "
            "'pip install tzdata' brings one"
        )
    near = difflib.get_close_matches(str(name), known, n=1) or ["Europe/Berlin"]
    raise ConfigError(f"timezone must be a name of the IANA database such as {near[0]!r}, got {name!r}")
