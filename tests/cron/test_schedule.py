"""When a schedule fires, in the words of docs/periodic.md."""

from __future__ import annotations

import pytest

from taskito.cron.schedule import Schedule
from tests.cron.clocks import moment, shown

NEW_YORK = "America/New_York"
DAY = 24 * 60 * 60 * 1000


def fires(cron: str, zone: str, start: str, end: str) -> list[str]:
    """Every fire from ``start`` up to but without ``end``, both on the zone's clock."""
    schedule = Schedule(cron, zone)
    return shown(schedule.between(moment(start, zone) - 1, moment(end, zone) - 1, 1000), zone)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/20 * * * *", ["2026-05-01T00:20:00", "2026-05-01T00:40:00", "2026-05-01T01:00:00"]),
        ("*/20 * * * * *", ["2026-05-01T00:00:20", "2026-05-01T00:00:40", "2026-05-01T00:01:00"]),
        ("30 15 6 * * *", ["2026-05-01T06:15:30", "2026-05-02T06:15:30", "2026-05-03T06:15:30"]),
        ("15 6 * * *", ["2026-05-01T06:15:00", "2026-05-02T06:15:00", "2026-05-03T06:15:00"]),
        ("  0  12  *  *  *  ", ["2026-05-01T12:00:00", "2026-05-02T12:00:00", "2026-05-03T12:00:00"]),
        ("0 0 l * *", ["2026-05-31T00:00:00", "2026-06-30T00:00:00", "2026-07-31T00:00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00", "2032-02-29T00:00:00", "2036-02-29T00:00:00"]),
        ("0 0 * * Mon#2", ["2026-05-11T00:00:00", "2026-06-08T00:00:00", "2026-07-13T00:00:00"]),
        ("0 0 * * L5", ["2026-05-29T00:00:00", "2026-06-26T00:00:00", "2026-07-31T00:00:00"]),
        ("0 0 16W * *", ["2026-05-15T00:00:00", "2026-06-16T00:00:00", "2026-07-16T00:00:00"]),
        ("0 0 * * sat-sun", ["2026-05-02T00:00:00", "2026-05-03T00:00:00", "2026-05-09T00:00:00"]),
        ("0 0 * * 7", ["2026-05-03T00:00:00", "2026-05-10T00:00:00", "2026-05-17T00:00:00"]),
        ("0 0 * * 6-7", ["2026-05-02T00:00:00", "2026-05-03T00:00:00", "2026-05-09T00:00:00"]),
        ("0 0 ? nov-dec ?", ["2026-11-01T00:00:00", "2026-11-02T00:00:00", "2026-11-03T00:00:00"]),
        ("@hourly", ["2026-05-01T01:00:00", "2026-05-01T02:00:00", "2026-05-01T03:00:00"]),
        ("@Daily", ["2026-05-02T00:00:00", "2026-05-03T00:00:00", "2026-05-04T00:00:00"]),
        ("@weekly", ["2026-05-03T00:00:00", "2026-05-10T00:00:00", "2026-05-17T00:00:00"]),
        ("@monthly", ["2026-06-01T00:00:00", "2026-07-01T00:00:00", "2026-08-01T00:00:00"]),
        ("@annually", ["2027-01-01T00:00:00", "2028-01-01T00:00:00", "2029-01-01T00:00:00"]),
    ],
)
def test_fields_and_aliases_mean_what_cron_says(cron: str, expected: list[str]) -> None:
    described = Schedule(cron).describe_next(moment("2026-05-01"))

    assert described == [f"{text}+00:00" for text in expected]


def test_a_day_of_the_month_and_a_weekday_are_alternatives() -> None:
    assert fires("0 0 13 * fri", "UTC", "2026-05-01", "2026-05-16") == [
        "2026-05-01T00:00:00+00:00",
        "2026-05-08T00:00:00+00:00",
        "2026-05-13T00:00:00+00:00",
        "2026-05-15T00:00:00+00:00",
    ]


def test_an_alternative_that_never_comes_leaves_the_other() -> None:
    assert Schedule("0 0 31 2 mon").describe_next(moment("2026-05-01"), 1) == ["2027-02-01T00:00:00+00:00"]


def test_the_next_fire_is_later_than_the_moment_and_not_equal_to_it() -> None:
    schedule = Schedule("* * * * *")
    fire = moment("2026-05-01T12:00:00")

    assert schedule.next_after(fire - 1) == fire
    assert schedule.next_after(fire) == fire + 60_000
    assert schedule.next_after(fire + 1) == fire + 60_000


# ---- clocks that are turned ----


def test_a_time_that_clocks_skip_fires_once_when_the_gap_ends() -> None:
    assert fires("30 2 * * *", NEW_YORK, "2026-03-07", "2026-03-10") == [
        "2026-03-07T02:30:00-05:00",
        "2026-03-08T03:00:00-04:00",
        "2026-03-09T02:30:00-04:00",
    ]


@pytest.mark.parametrize("cron", ["0,15,30 2 * * *", "0 2,3 * * *", "0,30 0 2 * * *"])
def test_several_times_that_clocks_skip_are_one_fire(cron: str) -> None:
    assert fires(cron, NEW_YORK, "2026-03-08", "2026-03-08T03:00:01") == ["2026-03-08T03:00:00-04:00"]


def test_a_time_that_clocks_show_twice_fires_the_first_time() -> None:
    assert fires("30 1 * * *", NEW_YORK, "2026-10-31", "2026-11-03") == [
        "2026-10-31T01:30:00-04:00",
        "2026-11-01T01:30:00-04:00",
        "2026-11-02T01:30:00-05:00",
    ]


def test_a_fixed_time_is_over_for_the_day_also_if_it_is_asked_for_in_the_repeated_hour() -> None:
    schedule = Schedule("30 1 * * *", NEW_YORK)

    for asked in ("2026-11-01T01:10:00-05:00", "2026-11-01T01:50:00-04:00"):
        assert shown([schedule.next_after(moment(asked))], NEW_YORK) == ["2026-11-02T01:30:00-05:00"]


@pytest.mark.parametrize("cron", ["*/30 * * * *", "0,30 */1 * * *", "0,30 0-23 * * *", "0 0/30 * * * *"])
def test_wildcards_steps_and_ranges_go_on_through_a_repeated_hour(cron: str) -> None:
    assert fires(cron, NEW_YORK, "2026-11-01T00:30:00", "2026-11-01T02:30:00") == [
        "2026-11-01T00:30:00-04:00",
        "2026-11-01T01:00:00-04:00",
        "2026-11-01T01:30:00-04:00",
        "2026-11-01T01:00:00-05:00",
        "2026-11-01T01:30:00-05:00",
        "2026-11-01T02:00:00-05:00",
    ]


def test_wildcards_have_no_fire_for_what_clocks_skip() -> None:
    assert fires("15 * * * *", NEW_YORK, "2026-03-08T01:00:00", "2026-03-08T04:00:00") == [
        "2026-03-08T01:15:00-05:00",
        "2026-03-08T03:15:00-04:00",
    ]


def test_lord_howe_turns_its_clock_by_half_an_hour() -> None:
    zone = "Australia/Lord_Howe"

    assert fires("15 2 * * *", zone, "2026-10-04", "2026-10-05") == ["2026-10-04T02:30:00+11:00"]
    assert fires("45 1 * * *", zone, "2026-04-05", "2026-04-06") == ["2026-04-05T01:45:00+11:00"]
    assert fires("*/15 * * * *", zone, "2026-04-05T01:30:00", "2026-04-05T02:15:00") == [
        "2026-04-05T01:30:00+11:00",
        "2026-04-05T01:45:00+11:00",
        "2026-04-05T01:30:00+10:30",
        "2026-04-05T01:45:00+10:30",
        "2026-04-05T02:00:00+10:30",
    ]


def test_a_midnight_that_clocks_skip_fires_when_the_day_begins() -> None:
    assert fires("0 0 * * *", "America/Sao_Paulo", "2018-11-03", "2018-11-06") == [
        "2018-11-03T00:00:00-03:00",
        "2018-11-04T01:00:00-02:00",
        "2018-11-05T00:00:00-02:00",
    ]


def test_a_day_that_a_country_left_out_fires_when_the_next_begins() -> None:
    assert fires("0 12 * * *", "Pacific/Apia", "2011-12-29", "2012-01-01") == [
        "2011-12-29T12:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2011-12-31T12:00:00+14:00",
    ]


# ---- over a stretch of time ----


def test_between_has_the_end_and_not_the_beginning_and_stops_at_its_limit() -> None:
    schedule = Schedule("0 * * * *")
    start, end = moment("2026-05-01T00:00:00"), moment("2026-05-01T03:00:00")

    assert shown(schedule.between(start, end, 10)) == [
        f"2026-05-01T0{hour}:00:00+00:00" for hour in (1, 2, 3)
    ]
    assert schedule.between(start, end, 2) == schedule.between(start, end, 10)[:2]
    assert schedule.between(start, end, 0) == schedule.between(end, start, 10) == []


@pytest.mark.parametrize("cron", ["* * * * * *", "7 3 * * *", "*/10 1 1 * *", "0 0 29 2 *"])
@pytest.mark.parametrize("until", ["2026-03-08T03:00:00", "2026-11-01T01:59:59.999"])
def test_the_last_one_is_the_one_with_no_other_between_it_and_the_end(cron: str, until: str) -> None:
    schedule = Schedule(cron, NEW_YORK)
    end = moment(until, NEW_YORK)

    last = schedule.last_between(end - 3000 * DAY, end)

    assert last is not None
    assert last <= end < schedule.next_after(last)
    assert schedule.next_after(last - 1) == last
    assert schedule.last_between(last, end) is None
    assert schedule.last_between(last - 1, last) == last


def test_two_of_the_same_words_are_equal_and_one_cannot_be_changed() -> None:
    schedule = Schedule("@daily", NEW_YORK)

    assert schedule == Schedule("@daily", NEW_YORK)
    assert schedule != Schedule("@daily")
    with pytest.raises(AttributeError):
        schedule.cron = "@hourly"  # type: ignore[misc]
