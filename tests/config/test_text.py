"""What people read on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from taskito.config.text import cut, one_line, printable, show_moments, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("bell\x07, back\x08, \x7f and \x9b31m", "bell\\x07, back\\x08, \\x7f and \\x9b31m"),
        ("turned \u202e round", "turned \\u202e round"),
        ("over\rwritten\r\n", "over\\x0dwritten\n"),
        ("half\ud800", "half\\ud800"),
        ("ünïcödé 漢字 🎉", "ünïcödé 漢字 🎉"),
        ("\x1b", "\\x1b"),
    ],
)
def test_nothing_that_steers_a_terminal_is_left(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_cell_is_one_line_and_takes_the_places_it_is_given() -> None:
    assert one_line("ValueError:\n  two\tlines") == "ValueError: two lines"
    assert [cut("abcdef", places) for places in (6, 5, 1)] == ["abcdef", "abcd…", "…"]
    assert (width("漢字"), cut("漢字漢字", 5), width("e\u0301")) == (4, "漢字…", 1)


def test_moments_of_records_are_iso_8601_in_utc() -> None:
    record = {"created_at": 1_700_000_000_123, "started_at": None, "last_seen": 0, "attempt": 1}

    assert show_moments(record) == {
        "created_at": "2023-11-14T22:13:20.123+00:00",
        "started_at": None,
        "last_seen": "1970-01-01T00:00:00.000+00:00",
        "attempt": 1,
    }


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("America/New_York", "2023-11-14 17:13:20-05:00"),
        ("Asia/Kolkata", "2023-11-15 03:43:20+05:30"),
        ("UTC", "2023-11-14 22:13:20+00:00"),
    ],
)
def test_people_read_their_own_time_with_its_distance_from_utc(zone: str, shown: str) -> None:
    code = "from taskito.config.text import moment; print(moment(1_700_000_000_123), moment(None))"
    said = "from taskito.config.text import moment; print(moment('2023-11-14T22:13:20.123+00:00'))"

    for line in (code, said):
        done = subprocess.run(
            [sys.executable, "-c", line],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == shown
