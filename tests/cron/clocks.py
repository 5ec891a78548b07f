"""Moments as people write them, and zones whose clocks do everything that clocks do."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

ZONES = (
    "America/New_York",
    "America/Sao_Paulo",  # turned at midnight, until 2019
    "America/St_Johns",  # half an hour off
    "Africa/Casablanca",  # turned back for Ramadan, on another date each year
    "Africa/Cairo",  # turned at midnight
    "Asia/Kolkata",  # never turned
    "Australia/Lord_Howe",  # turned by half an hour
    "Australia/Sydney",
    "Europe/Dublin",  # its winter time is the exception
    "Europe/London",
    "Pacific/Apia",  # turned at midnight; left out 30 December 2011
    "UTC",
)


def moment(text: str, zone: str = "UTC") -> int:
    """Milliseconds of an ISO text, with its own offset or on the clock of ``zone``."""
    read = datetime.fromisoformat(text)
    return round((read if read.tzinfo else read.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1000)


def shown(moments: list[int], zone: str = "UTC") -> list[str]:
    return [datetime.fromtimestamp(one / 1000, ZoneInfo(zone)).isoformat() for one in moments]


def turns(zone: str, first_year: int, last_year: int) -> list[int]:
    """The days, in milliseconds, in whose course the clock of ``zone`` is turned."""
    clock, day = ZoneInfo(zone), 24 * 60 * 60
    first = round(datetime(first_year, 1, 1, tzinfo=UTC).timestamp())
    last = round(datetime(last_year, 12, 31, tzinfo=UTC).timestamp())
    offsets = {at: datetime.fromtimestamp(at, clock).utcoffset() for at in range(first, last + 2 * day, day)}
    return [at * 1000 for at in range(first, last, day) if offsets[at] != offsets[at + day]]
