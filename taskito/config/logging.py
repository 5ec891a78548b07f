"""Logging of the commands: one handler, two formats, and the job that a record was made in.

Libraries do not configure logging, so nothing here runs unless a command (or the user) calls
``configure``. Passwords in URLs are masked in whatever passes through our formatters.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Literal

from taskito.config.text import printable
from taskito.running_job import job_context
from taskito_core.errors import ConfigError
from taskito_core.redact import mask_text

LogFormat = Literal["text", "json"]

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")
JOB_FIELDS = ("job_id", "task", "attempt")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", *JOB_FIELDS}


class JobFilter(logging.Filter):
    """Adds ``job_id``, ``task`` and ``attempt`` to every record; outside a task they are None.

    Put it on a handler, not on a logger: a logger's filters do not see its children's records.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        context = job_context.current()
        record.job_id = context.id if context else None
        record.task = context.task_name if context else None
        record.attempt = context.attempt if context else None
        return True


class TextFormatter(logging.Formatter):
    """One line per record for people; the job, if there is one, stands behind the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s [%(process)d] %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        if getattr(record, "job_id", None) is None:
            return line
        job = vars(record)
        return f"{line} (job {job['job_id']}, task {job['task']}, attempt {job['attempt']})"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Local time with its distance from UTC, as the commands show moments."""
        return datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(" ", "milliseconds")

    def format(self, record: logging.LogRecord) -> str:
        return printable(mask_text(super().format(record)))


class JsonFormatter(logging.Formatter):
    """One JSON object per line for machines; what was passed as ``extra`` is in it."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": mask_text(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                fields[name] = _masked(value)
        for name in JOB_FIELDS:
            if (found := getattr(record, name, None)) is not None:
                fields[name] = found
        if record.exc_info:
            fields["exception"] = mask_text(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = mask_text(self.formatStack(record.stack_info))
        return json.dumps(fields)


def _masked(value: object) -> object:
    """What JSON can hold of a value, without the passwords in its texts."""
    match value:
        case str():
            return mask_text(value)
        case bool() | int() | float() | None:
            return value
        case list() | tuple():
            return [_masked(one) for one in value]
        case dict():
            return {str(key): _masked(one) for key, one in value.items()}
        case _:
            return mask_text(repr(value))


class _Handler(logging.StreamHandler[IO[str]]):
    """Ours, so that configuring twice replaces it and an app's handlers are left alone."""


def configure(level: str = "info", format: str = "text", stream: IO[str] | None = None) -> None:  # noqa: A002
    """Show records of ``level`` and above on ``stream`` (stderr).

    If the root logger is not configured, its records are shown too: what tasks log. If an app did that, its
    own configuration stands and only taskito's records are ours. May be called again. Raises ConfigError.
    """
    threshold = _level(level)
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_formatter(format))
    handler.addFilter(JobFilter())
    root, ours = logging.getLogger(), logging.getLogger("taskito")
    for logger in (root, ours):
        for old in [one for one in logger.handlers if isinstance(one, _Handler)]:
            logger.removeHandler(old)
    ours.setLevel(threshold)
    ours.propagate = not root.handlers
    if ours.propagate:
        root.addHandler(handler)
        root.setLevel(threshold)
    else:
        ours.addHandler(handler)


def _level(word: str) -> int:
    if word.lower() not in LEVELS:
        raise ConfigError(f"log level must be one of {', '.join(LEVELS)}, got {word!r}")
    return logging.getLevelNamesMapping()[word.upper()]


def _formatter(word: str) -> logging.Formatter:
    match word.lower():
        case "text":
            return TextFormatter()
        case "json":
            return JsonFormatter()
        case _:
            raise ConfigError(f"log format must be one of {', '.join(FORMATS)}, got {word!r}")
