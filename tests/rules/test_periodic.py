"""When periodic tasks fire: against another reading of cron, over the days on which clocks are turned."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from taskito_core import ConfigError
from taskito_core.periodic import MAX_CATCH_UP, MISSED_AFTER, Schedule, due, slot_id

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = 60_000


def moment(text: str, zone: ZoneInfo | None = None) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp() * 1000)


NOON = moment("2026-05-01T12:00")


def shown(fires: list[int], zone: str = "UTC") -> list[str]:
    return [datetime.fromtimestamp(fire / 1000, ZoneInfo(zone)).isoformat() for fire in fires]


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    spans = st.tuples(value, value).map(sorted)
    return st.one_of(
        st.just("*"),
        st.integers(2, max(2, (high - low) // 2)).map(lambda step: f"*/{step}"),
        st.lists(value, min_size=1, max_size=3, unique=True).map(
            lambda some: ",".join(map(str, sorted(some)))
        ),
        spans.filter(lambda span: span[0] < span[1]).map(lambda span: f"{span[0]}-{span[1]}"),
    )


@given(
    parts=st.tuples(fields(0, 59), fields(0, 23), st.just("*"), fields(1, 12), fields(0, 6)),
    start=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),
)
def test_fires_agree_with_another_reader_of_cron(parts, start):
    expression, start = " ".join(parts), start.replace(microsecond=0)
    other = CronSim(expression, start)

    ours = Schedule(expression).between(moment(start.isoformat()), 2**60, 5)

    assert ours == [moment(next(other).isoformat()) for _ in range(5)]


@given(hour=st.integers(0, 5), minute=st.integers(0, 59), day=st.sampled_from(["2026-03-28", "2026-10-24"]))
def test_a_fixed_time_fires_once_a_day_also_when_clocks_are_turned(hour, minute, day):
    schedule = Schedule(f"{minute} {hour} * * *", "Europe/Berlin")
    begin = datetime.fromisoformat(day).replace(tzinfo=BERLIN)

    fires = schedule.between(
        round(begin.timestamp() * 1000) - 1000,
        round((begin + timedelta(days=3)).timestamp() * 1000) - 1000,
        10,
    )

    days = [datetime.fromtimestamp(fire / 1000, BERLIN).date() for fire in fires]
    assert days == [begin.date() + timedelta(days=number) for number in range(3)]


def test_a_time_that_clocks_skip_fires_at_the_end_of_the_gap_and_one_shown_twice_the_first_time():
    schedule = Schedule("30 2 * * *", "Europe/Berlin")

    spring = schedule.between(moment("2026-03-28T12:00", BERLIN), 2**60, 2)
    autumn = schedule.between(moment("2026-10-24T12:00", BERLIN), 2**60, 2)

    assert shown(spring, "Europe/Berlin") == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    assert shown(autumn, "Europe/Berlin") == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_every_so_many_minutes_goes_on_through_the_hour_that_comes_twice():
    fires = Schedule("*/30 * * * *", "Europe/Berlin").between(moment("2026-10-24T23:59"), 2**60, 5)

    gaps = {later - earlier for earlier, later in itertools.pairwise(fires)}
    assert gaps == {30 * 60 * 1000}


@pytest.mark.parametrize(
    ("cron", "first"),
    [
        ("0 0 1 * wed", "2026-05-06T00:00:00+00:00"),  # either of the two days
        ("0 0 * * mon#2", "2026-05-11T00:00:00+00:00"),
        ("0 9 15w * *", "2026-05-15T09:00:00+00:00"),
        ("0 0 * * 7", "2026-05-03T00:00:00+00:00"),
    ],
)
def test_days_are_read_as_documented(cron, first):
    assert shown([Schedule(cron).next_after(NOON)]) == [first]


def test_the_last_fire_before_now_is_found_at_once_however_long_ago():
    schedule = Schedule("* * * 1 5 *")

    assert schedule.last_between(NOON, NOON + 200 * 24 * 3_600_000) == moment("2026-05-01T23:59:59")


@pytest.mark.parametrize(
    ("cron", "timezone", "said"),
    [
        ("* * * *", "UTC", "5"),
        ("60 * * * *", "UTC", "minute"),
        ("* * * * mo", "UTC", "weekday"),
        ("0 0 30 2 *", "UTC", "never"),
        ("0 0 15w * fri", "UTC", "two schedules"),
        ("* * * * *", "Europe/Berln", "Europe/Berlin"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_said(cron, timezone, said):
    with pytest.raises(ConfigError, match=said):
        Schedule(cron, timezone)


@pytest.mark.parametrize(
    ("catch_up", "now", "slots"),
    [
        ("skip", NOON - 1, []),
        ("skip", NOON, [NOON]),
        ("skip", NOON + MISSED_AFTER - 1, [NOON]),
        ("skip", NOON + 5 * MINUTE + 40_000, []),
        ("one", NOON + 5 * MINUTE + 40_000, [NOON + 5 * MINUTE]),
        ("all", NOON + 2 * MINUTE + 40_000, [NOON, NOON + MINUTE, NOON + 2 * MINUTE]),
    ],
)
def test_what_passed_is_caught_up_with_as_asked(catch_up, now, slots):
    found = due(Schedule("* * * * *"), NOON, now, catch_up)

    assert found.slots == slots
    assert found.next_run == (NOON if now < NOON else now - now % MINUTE + MINUTE)


def test_very_many_missed_slots_come_in_parts_and_none_twice():
    schedule, now = Schedule("* * * * * *"), NOON + 2_500_000
    slots, next_run = [], NOON
    while next_run <= now:
        found = due(schedule, next_run, now, "all")
        assert len(found.slots) <= MAX_CATCH_UP
        slots += found.slots
        next_run = found.next_run

    assert slots == list(range(NOON, now + 1, 1000))


def test_a_slot_has_one_id_whoever_makes_it_and_every_slot_another():
    ids = {
        slot_id(app, name, slot) for app in ("a", "b") for name in ("x", "y") for slot in (NOON, NOON + 1000)
    }

    assert len(ids) == 8
    assert slot_id("a", "x", NOON) in ids
