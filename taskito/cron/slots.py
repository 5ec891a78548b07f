"""Which slots of a schedule have fired, so that a clock that is set back fires none of them twice.

Kept as ranges, because a schedule of seconds has very many. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from taskito.cron.schedule import Schedule

#: Ranges that are kept, at most. As long as slots are fired one after the other there is one.
MAX_RANGES = 20


@dataclass(frozen=True, slots=True)
class FiredSlots:
    """The slots of one schedule that have fired."""

    #: First and last of each, in order: every slot of the schedule between them has fired, and they have.
    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_text(cls, text: str) -> FiredSlots:
        """Read what ``to_text`` wrote; the empty text means none."""
        return cls(tuple((first, last) for first, last in json.loads(text))) if text else cls()

    def to_text(self) -> str:
        return json.dumps(self.ranges)

    def __contains__(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.ranges)

    def next_after(self, schedule: Schedule, moment: int) -> int:
        """The first slot later than the moment that has not fired."""
        slot = schedule.next_after(moment)
        for first, last in self.ranges:
            if first <= slot <= last:
                slot = schedule.next_after(last)
        return slot

    def add(self, schedule: Schedule, slots: Sequence[int]) -> FiredSlots:
        """These fire, oldest first; none between them is left that has not. The oldest may be forgotten."""
        if not slots:
            return self
        first, last = slots[0], slots[-1]
        before = [pair for pair in self.ranges if pair[0] < first]
        after = [pair for pair in self.ranges if pair[1] > last and pair[0] >= first]
        if before and schedule.next_after(before[-1][1]) >= first:
            begin, end = before.pop()
            first, last = begin, max(last, end)
        if after and schedule.next_after(last) >= after[0][0]:
            last = after.pop(0)[1]
        return FiredSlots((*before, (first, last), *after)[-MAX_RANGES:])
