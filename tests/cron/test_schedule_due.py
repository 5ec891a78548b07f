"""Which missed slots are made up for, and the ids of their jobs."""

from __future__ import annotations

import pytest

from taskito.cron.schedule import CATCH_UP, MAX_CATCH_UP, Schedule, due, slot_id
from taskito_core.job import new_id
from tests.cron.clocks import moment, shown

HOURLY, MINUTELY, SECONDLY = Schedule("@hourly"), Schedule("* * * * *"), Schedule("* * * * * *")
NOON = moment("2026-05-01T12:00:00")
HOUR, DAY = 60 * 60 * 1000, 24 * 60 * 60 * 1000


@pytest.mark.parametrize("catch_up", CATCH_UP)
@pytest.mark.parametrize("late", [0, 1, 5_000, 59_999])
def test_a_slot_that_is_less_than_a_minute_late_is_enqueued_whatever_the_policy(
    catch_up: str, late: int
) -> None:
    assert due(HOURLY, NOON, NOON + late, catch_up) == ([NOON], NOON + HOUR)


@pytest.mark.parametrize(("catch_up", "slots"), [("skip", []), ("one", [NOON]), ("all", [NOON])])
def test_a_slot_that_is_a_minute_late_was_missed(catch_up: str, slots: list[int]) -> None:
    assert due(HOURLY, NOON, NOON + 60_000, catch_up) == (slots, NOON + HOUR)


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("skip", []),
        ("one", ["2026-05-01T15:00:00+00:00"]),
        ("all", [f"2026-05-01T{hour}:00:00+00:00" for hour in (12, 13, 14, 15)]),
    ],
)
def test_after_hours_without_a_worker_the_policy_says_what_is_made_up_for(
    catch_up: str, expected: list[str]
) -> None:
    now = moment("2026-05-01T15:30:00")

    slots, next_run = due(HOURLY, NOON, now, catch_up)

    assert shown(slots) == expected
    assert shown([next_run]) == ["2026-05-01T16:00:00+00:00"]


def test_skip_keeps_the_latest_slot_if_that_one_is_in_time_and_drops_those_before_it() -> None:
    now = moment("2026-05-01T15:00:02")

    assert shown(due(HOURLY, NOON, now, "skip").slots) == ["2026-05-01T15:00:00+00:00"]


@pytest.mark.parametrize("catch_up", ["skip", "one"])
def test_slots_of_every_second_that_a_worker_is_late_for_become_one(catch_up: str) -> None:
    assert due(SECONDLY, NOON, NOON + 4_300, catch_up) == ([NOON + 4_000], NOON + 5_000)


def test_skip_after_an_hour_away_enqueues_one_of_the_slots_of_the_last_minute() -> None:
    now = NOON + HOUR

    assert due(SECONDLY, NOON, now, "skip") == ([now], now + 1_000)


@pytest.mark.parametrize("catch_up", ["skip", "one"])
def test_the_latest_slot_is_found_at_once_after_years_away(catch_up: str) -> None:
    now = NOON + 3_000 * DAY

    assert due(SECONDLY, NOON, now, catch_up) == ([now], now + 1_000)


def test_all_comes_in_portions_that_lose_nothing_and_repeat_nothing() -> None:
    end = NOON + 2 * DAY
    slots, next_run, calls = list[int](), NOON, 0

    while next_run <= end:
        portion, next_run = due(MINUTELY, next_run, end, "all")
        assert len(portion) <= MAX_CATCH_UP
        slots, calls = slots + portion, calls + 1

    assert slots == list(range(NOON, end + 1, 60_000))
    assert next_run == end + 60_000
    assert calls == 3


@pytest.mark.parametrize("catch_up", CATCH_UP)
def test_nothing_is_due_before_its_time(catch_up: str) -> None:
    assert due(HOURLY, NOON, NOON - 1, catch_up) == ([], NOON)


@pytest.mark.parametrize("catch_up", CATCH_UP)
def test_a_stored_moment_at_which_the_schedule_does_not_fire_is_not_enqueued(catch_up: str) -> None:
    assert due(HOURLY, NOON + 1, NOON + 2_000, catch_up) == ([], NOON + HOUR)


def test_a_repeated_hour_is_caught_up_slot_by_slot() -> None:
    zone = "America/New_York"
    start, end = moment("2026-11-01T01:30:00-04:00"), moment("2026-11-01T02:00:00-05:00")

    slots, _ = due(Schedule("*/30 * * * *", zone), start, end, "all")

    assert shown(slots, zone) == [
        "2026-11-01T01:30:00-04:00",
        "2026-11-01T01:00:00-05:00",
        "2026-11-01T01:30:00-05:00",
        "2026-11-01T02:00:00-05:00",
    ]


# ---- ids ----


def test_a_slot_has_the_same_id_wherever_it_is_computed_also_in_the_next_version() -> None:
    assert slot_id("app:queue", "nightly", NOON) == "019de368f6007b4ba227d51bdf40f8df"


def test_another_app_name_or_moment_is_another_id_however_the_words_are_cut() -> None:
    ids = {
        slot_id(app, name, at)
        for app, name, at in [
            ("a", "bc", NOON),
            ("ab", "c", NOON),
            ("a", "bc", NOON + 1000),
            ('a", "b', "c", NOON),
            ("a", 'b", "c', NOON),
        ]
    }

    assert len(ids) == 5


def test_the_id_of_a_slot_is_shaped_as_any_other_and_sorts_by_time() -> None:
    ids = [slot_id("app:queue", "nightly", NOON + n * DAY) for n in range(200)]

    assert ids == sorted(ids)
    for one in (*ids, new_id()):
        assert len(one) == 32
        assert one[12] == "7"
        assert one[16] in "89ab"
    assert int(ids[1][:12], 16) == NOON + DAY
