"""Datetimes and times come back with all that ISO 8601 leaves out."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from taskito import JsonSerializer

serializer = JsonSerializer()


def back(value: object) -> Any:
    return serializer.loads(serializer.dumps(value))


def test_the_repeated_hour_of_a_clock_change_keeps_its_fold() -> None:
    second = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)

    read = back(second)

    assert read.utcoffset() == timedelta(hours=1)
    assert (read.fold, read.tzinfo.key) == (1, "Europe/Berlin")


def test_an_offset_keeps_its_name() -> None:
    summer = timezone(timedelta(hours=2), "CEST")

    assert back(datetime(2026, 7, 1, tzinfo=summer)).tzname() == "CEST"
    assert back(time(12, fold=1, tzinfo=summer)).tzname() == "CEST"
    assert serializer.dumps(time(12, tzinfo=summer)) == b'{"$time":["12:00:00+02:00",0,null,"CEST"]}'
    assert serializer.dumps(time(12, tzinfo=timezone(timedelta(hours=2)))) == b'{"$time":"12:00:00+02:00"}'
