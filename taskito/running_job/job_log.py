"""The notes of a running job as plain lists that cross a socket: progress, log lines, published values.

A value that cannot be noted is a ConfigError, where the task notes it.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any

from taskito_core.errors import ConfigError
from taskito_core.job import clean_text
from taskito_core.storage_worker import LogEntry, Note, Progress

Fields = list[Any]  #: ``["progress", value]`` or ``["log", id, logged_at, level, message, extra]``

LEVELS = ("debug", "info", "warning", "error", "critical")
#: The levels of what a job printed.
STREAMS = ("stdout", "stderr")
#: The levels that readers of a log can ask for.
READABLE = (*LEVELS, *STREAMS)
#: The level of what ``publish`` sends; ``extra`` holds the value.
PUBLISHED = "published"
#: The level of a worker's word that it cannot read the arguments; the key in ``extra`` of that worker's id.
UNREADABLE_LEVEL = "warning"
_UNREADABLE_BY = "unreadable_by"
#: Characters of one message, and of its ``extra`` as JSON, that are kept.
MESSAGE_CAP = 16 * 1024
EXTRA_CAP = 1024 * 1024

_count = itertools.count()
#: The latest moment in an id: a clock that is set back must not put a line before those that were read.
_latest = 0


def progress(value: object) -> Fields:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"progress must be a finite number, by custom from 0 to 100, got {value!r}")
    return ["progress", float(value)]


def log(message: object, level: object, extra: object) -> Fields:
    if level not in LEVELS:
        raise ConfigError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    return _entry(str(level), str(message), None if extra is None else _plain(extra))


def printed(stream: str, line: str) -> Fields:
    return _entry(stream, line, None)


def published(value: bytes) -> Fields:
    """``value``: what the task publishes, as the default serializer writes it."""
    return _entry(PUBLISHED, "", _bounded("a published value", value.decode()))


def unreadable(worker_id: str, now: int, problem: object) -> Fields:
    """That this worker cannot read the job's arguments; ``now``: by the store's clock."""
    extra = _plain({_UNREADABLE_BY: worker_id, "at": now})
    return _entry(UNREADABLE_LEVEL, f"worker {worker_id} cannot read its arguments: {problem}", extra)


def unreadable_by(entry: LogEntry) -> tuple[str, int] | None:
    """The worker and the moment, if this entry is what ``unreadable`` wrote."""
    if entry.extra is None or _UNREADABLE_BY not in entry.extra:
        return None
    match json.loads(entry.extra):
        case {"unreadable_by": str() as worker_id, "at": int() as moment}:
            return worker_id, moment
    return None


def read(fields: Fields, job_id: str, task_name: str, token: int) -> Note:
    """The record that the store keeps. Raises ValueError for a list that is no note."""
    match fields:
        case ["progress", float() | int() as value]:
            return Progress(job_id, float(value))
        case [
            "log",
            str() as id_,
            int() as logged_at,
            str() as level,
            str() as message,
            (None | str()) as extra,
        ]:
            return LogEntry(id_, job_id, task_name, token, logged_at, level, message, extra)
    raise ValueError(f"a job said what is no note: {fields!r:.200}")


def _entry(level: str, message: str, extra: str | None) -> Fields:
    global _latest
    now = time.time_ns() // 1_000_000
    _latest = max(_latest, now)
    return ["log", _new_id(_latest), now, level, clean_text(message, MESSAGE_CAP), extra]


def _new_id(now: int) -> str:
    """Time-ordered, and of one process in the order in which it made them."""
    return f"{now & 0xFFFF_FFFF_FFFF:012x}{next(_count) & 0xFFFF_FFFF:08x}{os.urandom(6).hex()}"


def _plain(extra: object) -> str:
    try:
        text = json.dumps(dict(extra) if isinstance(extra, Mapping) else extra, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"extra must be plain JSON values, got {extra!r:.200}: {exc}") from None
    return _bounded("extra", text)


def _bounded(what: str, text: str) -> str:
    if len(text) > EXTRA_CAP:
        raise ConfigError(f"{what} takes {len(text)} characters as JSON, {EXTRA_CAP} are allowed")
    return text
