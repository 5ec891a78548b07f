"""Periodic tasks: what an app declares, and which of its fires are enqueued when.

Pure, as schedule.py is: the caller says what time it is. A fire has one job id wherever it is
computed, so that two workers that enqueue it store one job.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

from taskito_core.job import as_id
from taskito_core.schedule import Schedule

#: Seconds. A fire that is this late was missed: nobody was there to enqueue it.
MISSED_AFTER = 60.0
#: Fires that one call of ``due`` returns at most.
MAX_CATCH_UP = 1000


class CatchUp(StrEnum):
    """What becomes of the fires of a time when no worker ran."""

    SKIP = "skip"  #: nothing, except that the latest one still counts if it is less than a minute late
    ONE = "one"  #: the latest one is enqueued, however late
    ALL = "all"  #: each is enqueued


class Due(NamedTuple):
    """What to do for one entry now."""

    fires: list[int]  #: to be enqueued, oldest first; milliseconds since the epoch, as all times here
    next_run: int  #: when to look again; not later than now if ``fires`` is full and more are due


def due(schedule: Schedule, next_run_ms: int, now_ms: int, catch_up: CatchUp) -> Due:
    """Which fires from ``next_run_ms``, the first one not dealt with, to ``now_ms`` are to be enqueued.

    They are reckoned anew: a stored ``next_run_ms`` at which the schedule does not fire, because the rules
    of its time zone have changed since, is not among them.
    """
    # The stored moment is itself still to be dealt with.
    since_ms = next_run_ms - 1
    match catch_up:
        case CatchUp.ALL:
            fires = schedule.between(since_ms, now_ms, MAX_CATCH_UP)
            return Due(fires, schedule.next_after(fires[-1] if fires else now_ms))
        case CatchUp.ONE:
            latest = schedule.last_between(since_ms, now_ms)
        case CatchUp.SKIP:
            latest = schedule.last_between(max(since_ms, now_ms - round(MISSED_AFTER * 1000)), now_ms)
        case _:
            assert_never(catch_up)
    return Due([] if latest is None else [latest], schedule.next_after(now_ms))


def fire_id(app: str, name: str, fire_ms: int) -> str:
    """The id of the job of one fire of an app's entry: the same in every process, in the order of time."""
    import hashlib  # loads OpenSSL, which no producer needs

    # As JSON, so that no two different triples are the same text.
    digest = hashlib.sha256(json.dumps([app, name, fire_ms]).encode()).digest()
    return as_id(f"{fire_ms & 0xFFFF_FFFF_FFFF:012x}", int.from_bytes(digest[:10], "big") >> 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicEntry:
    """One ``@queue.periodic`` of an app: when its task is enqueued, and with what."""

    app: str  #: whose entry it is, ``module:attribute``
    name: str  #: unique within the app
    task_name: str
    cron: str
    timezone: str = "UTC"
    catch_up: CatchUp = CatchUp.SKIP
    payload: bytes  #: the serialised arguments, opaque to every store
    queue: str = "default"
    priority: int = 0  #: higher is claimed first
    max_retries: int | None = None  #: retries after the first attempt; None: as the task says
    timeout: float | None = None  #: hard limit in seconds, 0: none; None: as the task says
    result_ttl: float | None = None  #: seconds a finished job is kept; None: for ever
    metadata: str | None = None  #: a JSON object as text
    tags: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """The fields as JSON can carry them; the payload is in base64."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "payload": base64.b64encode(self.payload).decode(), "tags": list(self.tags)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> PeriodicEntry:
        return cls(
            **{
                **plain,
                "catch_up": CatchUp(plain["catch_up"]),
                "payload": base64.b64decode(plain["payload"]),
                "tags": tuple(plain["tags"]),
            }
        )
