"""Datetimes and times as JSON and back, with what ISO 8601 cannot say: fold, zone, the name of an offset."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Any

from taskito.serialization.import_path import type_name
from taskito_core.errors import SerializationError


def written(value: datetime | time) -> str | list[object]:
    """ISO 8601 if that says all; else ``[ISO 8601, fold, key of its zone]``, and the name of its offset.

    Raises SerializationError for a zone of another kind.
    """
    zone = value.tzinfo
    if type(zone) is timezone:
        name = zone.tzname(None)
        if name != timezone(zone.utcoffset(None)).tzname(None):
            return [value.isoformat(), value.fold, None, name]
    key = _zone_key(zone)
    if key is None and not value.fold:
        return value.isoformat()
    return [(value.replace(tzinfo=None) if key else value).isoformat(), value.fold, key]


def _zone_key(zone: tzinfo | None) -> str | None:
    """The name of a zoneinfo zone; None for what isoformat writes by itself."""
    if zone is None or type(zone) is timezone:
        return None
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo and (key := getattr(zone, "key", None)):
        return str(key)
    raise SerializationError(
        f"its time zone is of type {type_name(type(zone))}; use zoneinfo.ZoneInfo(name) or datetime.timezone"
    )


def reader(kind: type[datetime] | type[time]) -> Callable[[Any], object]:
    """Reads what ``written`` gave for this class."""

    def read(body: Any) -> object:
        if isinstance(body, str):
            return kind.fromisoformat(body)
        text, fold, zone, *name = body
        moment = kind.fromisoformat(text).replace(fold=fold)
        if name:
            return moment.replace(tzinfo=timezone(_offset(moment), name[0]))
        if zone is None:
            return moment
        from zoneinfo import ZoneInfo

        return moment.replace(tzinfo=ZoneInfo(zone))

    return read


def _offset(moment: datetime | time) -> timedelta:
    if (offset := moment.utcoffset()) is None:
        raise SerializationError(f"{moment} has the name of an offset and no offset")
    return offset
