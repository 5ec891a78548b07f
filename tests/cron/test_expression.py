"""What a schedule refuses where it is written, and what it says about it."""

from __future__ import annotations

import contextlib
import os
import re
import string
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from taskito import ConfigError
from taskito.cron.schedule import Schedule
from tests.cron.clocks import moment

LETTERS = st.text(string.digits + "*,-/#?@ lwhrL" + "\t\n\0é", max_size=8)
WORDS = st.sampled_from(
    ["*", "0", "1", "mon", "fri#2", "mon-fri#2", "L5", "15W", "1-l", "*/5", "7", "l", "jan-mar"]
)


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("", "such as '*/5 * * * *' or '@daily', got ''"),
        ("   ", "got '   '"),
        (None, "got None"),
        (5, "got 5"),
        (b"@daily", "got b'@daily'"),
        ("0\t0 * * *", r"plain ASCII text on one line, spaces between fields, got '0\t0 * * *'"),
        ("0 0 * * *\n", r"got '0 0 * * *\n'"),
        ("0 0 * * *\0", r"got '0 0 * * *\x00'"),
        ("0 0 * * \u0663", "got '0 0 * * \u0663'"),
        (
            "* * * *",
            "5 fields (minute, hour, day, month, weekday), or 6 with seconds first, got 4 in '* * * *'",
        ),
        ("0 0 * * * * 2030", "got 7 in"),
        ("@reboot", "must be one of @yearly, @annually, @monthly"),
        ("60 * * * *", "the minute of cron '60 * * * *' must be 0-59, or *, lists, ranges, steps, got '60'"),
        ("60 * * * * *", "the second of cron"),
        ("0 24 * * *", "the hour of cron '0 24 * * *' must be 0-23, or *, lists"),
        ("0 0 0 * *", "the day of the month of cron"),
        ("0 0 * 13 *", "the month of cron"),
        ("0 0 * * 8", "the weekday of cron"),
        ("0 0 * * moon", "got 'moon'"),
        ("-1 * * * *", "got '-1'"),
        ("1,,2 * * * *", "got '1,,2'"),
        ("*/0 * * * *", "got '*/0'"),
        ("H * * * *", "the minute of cron 'H * * * *'"),
        ("R/5 * * * *", "the minute of cron 'R/5 * * * *'"),
        ("0 1-0 * * *", "the hour of cron '0 1-0 * * *' must have ranges that go up, got '1-0'"),
        ("0 22-6/2 * * *", "written as two, 22-23,0-6"),
        ("0 5-5 * * *", "got '5-5'"),
        ("0 0 * nov-feb *", "got 'nov-feb'"),
        ("0 0 * * fri-mon", "got 'fri-mon'"),
        ("0 0 * * fri-mon#2", "got 'fri-mon#2'"),
        ("*/90 * * * *", "steps of at most 60, got '*/90'"),
        ("0 0 31 2 *", "'0 0 31 2 *' must name a date that comes"),
        ("0 0 30,31 2 *", "must name a date that comes"),
        ("0 0 1 * mon#1", "must not join '1' and 'mon#1'"),
        ("0 0 15W * wed", "must not join '15w' and 'wed'"),
        ("0 0 15 * L5", "must not join '15' and 'l5'"),
        ("0 0 15 1 L5", "make two schedules, '0 0 15 1 *' and '0 0 * 1 l5'"),
        (
            "0 9 */1 * mon",
            "either or days that match both; write '0 9 * * *' for either, '0 9 * * mon' for both",
        ),
        (
            "0 0 */2 * 1",
            "for either, '0 0 */2 * *' and '0 0 * * 1', or one of them for both, whose task checks the other",
        ),
        ("0 0 */2 * 0-6", "write '0 0 * * *' for either, '0 0 */2 * *' for both"),
        ("0 0 13 * */1", "write '0 0 * * *' for either, '0 0 13 * *' for both"),
        ("0 0 13 * */3", "two schedules for either, '0 0 13 * *' and '0 0 * * */3', or one"),
        ("5 0 0 */2 6 */2", "two schedules for either, '5 0 0 */2 6 *' and '5 0 0 * 6 */2', or one"),
        ("0 0 *,15 * mon", "write '0 0 * * *' for either, '0 0 * * mon' for both"),
        ("0 0 5,*/10 * 1-5", "must not join '5,*/10' and '1-5', which may mean days that match either"),
        ("0 0 * * 7/3", "'0 0 * * 7/3' must say where its steps end, got '7/3'; write '7'"),
        ("0 0 * * mon/2", "got 'mon/2'; write 'mon-6/2'"),
        ("0 0 * * 6/2", "got '6/2'; write '6'"),
        ("7/3 * * * *", "'7/3 * * * *' must say where its steps end, got '7/3'; write '7-59/3'"),
        ("1,59/15 * * * *", "got '59/15'; write '59'"),
        ("0 0 1 dec/3 *", "got 'dec/3'; write 'dec'"),
        ("5/10 0 0 * * *", "the second of cron '5/10 0 0 * * *' must say where its steps end"),
        ("0 0 29W * *", "the day of the month of cron '0 0 29W * *' must have W with a day of every month"),
        ("0 0 W30 * *", "got 'w30'"),
        ("0 0 31W 1 *", "got '31w'"),
    ],
)
def test_an_expression_that_makes_no_sense_is_refused_with_what_would(cron: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Schedule(cron)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    "cron",
    [
        *("0 0 1 * wed", "0 0 l * mon", "*/60 * * * *", "0 0 28W * *", "0 0 W1 * *"),
        *("0 0 */2 * *", "0 0 */2 * ?", "0 0 ? * */2", "0 0 */1 * 0-6", "0 0 1-31/2 * mon"),
        *("0/30 * * * *", "0 0 1/2 jan/3 *", "7-59/3 * * * *", "0 0 * * 1-7/2", "0 0 * * mon-sun/3"),
    ],
)
def test_what_only_looks_like_it_is_accepted(cron: str) -> None:
    assert Schedule(cron).describe_next(0)


@pytest.mark.parametrize("day", ["*/1", "*/2", "*/7", "*/31", "*", "1-31", "1-31/2", "13", "2,*/9"])
@pytest.mark.parametrize("weekday", ["*/1", "*/2", "*", "0-6", "mon-fri", "mon", "1,*/6"])
def test_two_day_fields_that_are_accepted_have_one_reading(day: str, weekday: str) -> None:
    """Where cronsim, in which a star in one field makes the other a condition, would say otherwise."""
    cron = f"0 0 {day} * {weekday}"
    theirs = CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    expected = [next(theirs).date() for _ in range(60)]

    refused, fires = "", []
    try:
        fires = Schedule(cron).between(moment("2026-01-01"), moment("2046-01-01"), 60)
    except ConfigError as exc:
        refused = str(exc)

    if refused:
        assert "which may mean days that match either or days that match both" in refused
        advised = re.findall(r"'(0 0 [^']+)'", refused.partition(";")[2])
        assert len(advised) == 2
        assert all(Schedule(one).next_after(0) > 0 for one in advised), "what it advises is accepted"
    else:
        assert [datetime.fromtimestamp(fire / 1000, UTC).date() for fire in fires] == expected


@pytest.mark.parametrize(
    ("zone", "near"), [("europe/berlin", "Europe/Berlin"), ("America/NewYork", "America/New_York")]
)
def test_a_time_zone_that_is_misspelt_is_refused_with_the_nearest(zone: str, near: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Schedule("@daily", zone)

    said = f"timezone must be a name such as 'Europe/Berlin', got {zone!r}; did you mean {near!r}?"
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "zone", ["localtime", "LOCALTIME", "posixrules", "Factory", "right/UTC", "posix/Europe/Berlin"]
)
def test_a_zone_that_is_another_one_on_another_machine_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Schedule("@daily", zone)

    assert f"got {zone!r}, which another machine may read otherwise" in str(refused.value)
    assert "did you mean" not in str(refused.value)


@pytest.mark.parametrize("zone", ["America", "zone.tab", "/etc/passwd", "../UTC", "", "a\0b", None, 5])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Schedule("@daily", zone)

    assert f"timezone must be a name such as 'Europe/Berlin', got {zone!r}" in str(refused.value)


def test_without_a_time_zone_database_utc_works_and_another_zone_says_what_to_install() -> None:
    program = """
import importlib.abc, sys

class NoTzdata(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "tzdata":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoTzdata())
from taskito.cron.schedule import Schedule
print(Schedule("@daily").describe_next(0, 1))
Schedule("@daily", "Europe/Berlin")
"""
    environment = {**os.environ, "PYTHONTZPATH": ""}

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "['1970-01-02T00:00:00+00:00']\n"
    said = "timezone 'Europe/Berlin' cannot be looked up: install tzdata, this system has none"
    assert said in done.stderr


@settings(max_examples=400, deadline=None)
@given(st.one_of(LETTERS, st.lists(WORDS | LETTERS, min_size=5, max_size=6).map(" ".join)))
def test_any_text_is_a_schedule_that_fires_or_a_config_error(cron: str) -> None:
    with contextlib.suppress(ConfigError):
        assert Schedule(cron).next_after(0) > 0
