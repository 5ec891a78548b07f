"""Which slots have fired, as ranges: what a clock that is set back comes to again."""

from __future__ import annotations

import random

from taskito.cron.schedule import Schedule
from taskito.cron.slots import MAX_RANGES, FiredSlots

SECONDLY = Schedule("* * * * * *")
MINUTE = 60_000


def fired(*moments: int) -> FiredSlots:
    """What is noted after these seconds fired, one at a time, each as its time came."""
    slots = FiredSlots()
    for moment in moments:
        slots = slots.add(SECONDLY, [moment * 1000])
    return slots


def test_slots_that_follow_each_other_are_one_range() -> None:
    assert fired(5, 6, 7, 8).ranges == ((5_000, 8_000),)


def test_slots_that_were_passed_over_are_in_no_range() -> None:
    slots = fired(5, 6, 3605, 3606)

    assert slots.ranges == ((5_000, 6_000), (3_605_000, 3_606_000))
    assert slots.next_after(SECONDLY, 3_599_500) == 3_600_000
    assert slots.next_after(SECONDLY, 3_604_500) == 3_607_000


def test_what_fired_ahead_is_known_when_its_time_comes() -> None:
    slots = fired(3605, 3606, 7, 8)

    assert [second for second in range(3_600, 3_610) if second * 1000 in slots] == [3_605, 3_606]
    assert fired(3605, 3606, 3604, 3603, 3607).ranges == ((3_603_000, 3_607_000),)


def test_several_that_fire_at_once_are_one_range_together_with_those_between_them() -> None:
    slots = fired(3605, 3606).add(SECONDLY, [3_603_000, 3_604_000, 3_607_000])

    assert slots.ranges == ((3_603_000, 3_607_000),)


def test_a_clock_that_is_set_again_and_again_leaves_no_more_than_so_many_ranges() -> None:
    slots = fired(*range(0, 10_000, 10))

    assert len(slots.ranges) == MAX_RANGES
    assert slots.ranges[-1] == (9_990_000, 9_990_000)


def test_it_is_the_same_after_it_was_text() -> None:
    for slots in (FiredSlots(), fired(5, 6), fired(3605, 7)):
        assert FiredSlots.from_text(slots.to_text()) == slots
    assert FiredSlots.from_text("") == FiredSlots()


def test_whatever_the_clock_does_no_slot_fires_twice_and_none_of_the_present_is_left_out() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        slots, counts = FiredSlots(), dict[int, int]()
        now = 1_000_000
        for _ in range(60):
            now += 1_000 * rng.choice([1, 1, 1, 1, 1, 1, 1, 1, 3, 40, -40, -3])
            # As a worker does whose clock shows this: the latest slot, if it has not fired.
            slot = now // 1000 * 1000
            if slot not in slots:
                slots = slots.add(SECONDLY, [slot])
                counts[slot] = counts.get(slot, 0) + 1
        assert set(counts.values()) == {1}, seed
