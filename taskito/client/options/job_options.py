"""The options of a job: which there are, and whether a value makes sense. What is given is checked at once.

A value that makes no sense is a ConfigError; an option that does not exist is a TypeError, as in any call.
The checks of one value serve every part of the client: each takes the name under which the value was given.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, Required, TypedDict

from taskito import coerce
from taskito.serialization.typed_json import is_plain
from taskito_core.errors import ConfigError, PayloadTooLarge
from taskito_core.job import NewJob


class JobHandle(Protocol):
    """What a job is known by: JobResult is one."""

    @property
    def id(self) -> str: ...


Seconds = float | timedelta  #: a duration; a bare number is in seconds
Lifetime = Seconds | Literal["forever"]  #: how long something is kept
Dependencies = JobHandle | str | Sequence[JobHandle | str]

LONGEST_NAME = 255
#: Bytes of a job's metadata as JSON: it is for labels, and travels with every claim.
MAX_METADATA = 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class JobOptions(TypedDict, total=False):
    """What can be said about one job. What is left out is as its task says."""

    queue: str
    priority: int  #: higher is claimed first
    delay: Seconds  #: not before this long after the insert, by the store's clock
    eta: datetime  #: not before this moment; must know its time zone; instead of ``delay``
    max_retries: int  #: retries after the first attempt; 0: none
    timeout: Seconds | None  #: hard limit of an attempt; 0 or None: none
    result_ttl: Lifetime | None  #: how long it is kept after its end; None: as the store's retention says
    metadata: Mapping[str, Any] | None  #: plain JSON values by name
    tags: Sequence[str]
    id: str  #: the job's id; enqueueing an id that is stored already changes nothing
    unique_key: str  #: while a live job holds this key, enqueueing gives that job
    expires: Seconds | datetime  #: not started by then, or in so long: cancelled
    depends_on: Dependencies  #: jobs that must complete first; if one ends otherwise, this one is cancelled
    debounce: Seconds | None  #: run once, so long after the last call; None: not so, whatever the task says
    debounce_key: str  #: the calls that belong together; default: as the task says, or all of its calls
    throttle: Seconds | None  #: at most one job in so long: the calls after the first give that job
    throttle_key: str  #: as ``debounce_key``
    connection: object  #: enqueue in the transaction that is open on this connection


class JobSpec(JobOptions, total=False):
    """One job of ``enqueue_many``, as a dictionary; ``task.spec(...)`` makes one."""

    task_name: Required[str]
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None


JobOptions.__module__ = JobSpec.__module__ = "taskito"


def refuse_unknown(where: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise TypeError for the first option that does not exist, with the nearest that does."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{where} has no option {name!r}{hint} (options: {', '.join(sorted(known))})")


def job_fields(where: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of NewJob that ``options`` speak about. Raises ConfigError and TypeError as said above."""
    if not options:
        return {}
    refuse_unknown(where, options, JobOptions.__annotations__)
    fields: dict[str, Any] = {}
    for name, value in options.items():
        # A wrapper that passes its own defaults on gives None, which has a meaning for these two only.
        if value is not None or name in ("timeout", "result_ttl"):
            field, read = _FIELDS[name]
            if name == "expires" and isinstance(value, datetime):
                field, read = "expires_at", _moment
            if field is not None:
                fields[field] = read(name, value)
    if "scheduled_at" in fields and "delay" in fields:
        raise ConfigError(f"{where} was given both delay and eta; say one of them")
    return fields


def said_of(job: NewJob) -> dict[str, Any]:
    """The queue of a job, and what else was said of it, in the words of ``JobOptions``."""
    said: dict[str, Any] = {}
    for option, (field, _) in _FIELDS.items():
        if field is None:
            continue
        value = _readable(field, getattr(job, field))
        if option == "queue" or (option != "id" and value != _readable(field, _UNSAID[field])):
            said[option] = value
    if job.expires_at is not None:
        said["expires"] = _readable("expires_at", job.expires_at)
    return said


def agrees(job: NewJob, fields: Mapping[str, Any]) -> bool:
    """Has this job these fields?"""
    return all(
        _readable(field, getattr(job, field)) == _readable(field, value) for field, value in fields.items()
    )


def _readable(field: str, value: Any) -> Any:
    """The value of a field as it was said, or so that equal ones compare equal."""
    if value is not None and field == "metadata":
        return json.loads(value)
    is_moment = value is not None and field in ("scheduled_at", "expires_at")
    return _EPOCH + value * _MILLISECOND if is_moment else value


# ---- the checks of one value: each returns it as it is stored, or raises ConfigError ----


def name(what: str, value: object) -> str:
    """A name that people type, see in lists and grep for."""
    if not isinstance(value, str) or not value or value.strip() != value or not value.isprintable():
        raise ConfigError(
            f"{what} must be text that can be printed, with no space at its ends, got {value!r}"
        )
    if len(value) > LONGEST_NAME:
        raise ConfigError(f"{what} must have at most {LONGEST_NAME} characters, got {len(value)}")
    return str(value)


def call_arguments(args: object, kwargs: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Checked ``args`` and ``kwargs``; ConfigError for what cannot be passed with ``*`` and ``**``."""
    if not isinstance(args, (list, tuple)):
        raise ConfigError(f"args must be a list or a tuple of arguments, got {args!r:.200}")
    if kwargs is None:
        return args, {}
    if type(kwargs) is dict and not kwargs:
        return args, kwargs
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise ConfigError(f"kwargs must be a mapping of argument names to values, got {kwargs!r:.200}")
    return args, kwargs


def queue_name(what: str, value: object) -> str:
    if "," in (found := name(what, value)):
        raise ConfigError(f"{what} must not have a comma, which separates queue names, got {value!r}")
    return found


def queue_names(what: str, value: object) -> tuple[str, ...]:
    """A sequence of queue names, each once, in the order given."""
    return tuple(dict.fromkeys(queue_name(what, one) for one in sequence(what, value, "queue names")))


def whole(what: str, value: object, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= coerce.MOST:
        raise ConfigError(f"{what} must be a whole number from {least} to {coerce.MOST}, got {value!r}")
    return int(value)


def seconds(what: str, value: object) -> float:
    """A finite duration of 0 or more."""
    try:
        if isinstance(value, str):
            raise TypeError
        return coerce.duration(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{what} must be a number of seconds of 0 or more, got {value!r}") from None


def one_of(what: str, value: object, allowed: Sequence[str]) -> str:
    """One of a few words."""
    if value not in allowed:
        listed = " or ".join(map(repr, allowed)) if len(allowed) == 2 else f"one of {', '.join(allowed)}"
        raise ConfigError(f"{what} must be {listed}, got {value!r}")
    return str(value)


def boolean(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{what} must be True or False, got {value!r}")
    return value


def limit(what: str, value: object) -> float:
    """A duration; None and 0 both say that there is no limit."""
    return 0.0 if value is None else seconds(what, value)


def lifetime(what: str, value: object) -> float | None:
    """A duration, or ``forever``; None says nothing."""
    read = coerce.lifetime if value in ("forever", math.inf) else lambda value: seconds(what, value)
    return None if value is None else read(value)


def priority(what: str, value: object) -> int:
    return whole(what, value, -coerce.MOST)


def _moment(what: str, value: object) -> int:
    """An aware datetime as epoch milliseconds, rounded up: a job must not start before its time."""
    if not isinstance(value, datetime):
        raise ConfigError(f"{what} must be a datetime, got {value!r}")
    if value.utcoffset() is None:
        raise ConfigError(
            f"{what} must know its time zone, such as datetime.now(timezone.utc) does, got {value!r}"
        )
    return -((_EPOCH - value) // _MILLISECOND)


def moment(what: str, value: datetime | None) -> int | None:
    return None if value is None else _moment(what, value)


def _metadata(what: str, value: object) -> str | None:
    """A JSON object as text that every store's own JSON functions can read."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} must be a mapping of names to plain JSON values, got {value!r}")
    found = dict(value)
    problem = "only None, bool, int, float, str, and lists and dicts of them are allowed"
    try:
        if is_plain(found):
            text = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            if (size := len(text.encode())) > MAX_METADATA:
                raise PayloadTooLarge(f"{what} is {size} bytes as JSON, {MAX_METADATA} are allowed")
            if "\\u0000" not in text:
                return text if found else None
            problem = "a NUL character is not allowed"
    except (ValueError, RecursionError) as exc:
        problem = str(exc)
    raise ConfigError(f"{what} {found!r:.200} cannot be stored: {problem}")


def _tags(what: str, value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name("a tag", tag) for tag in sequence(what, value, "tags")))


def sequence(what: str, value: object, of: str) -> Sequence[object]:
    """A list of ``of``, also if it was given as a tuple or a set; text is none."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | set | frozenset):
        raise ConfigError(f"{what} must be a list of {of}, got {value!r}")
    return list(value)


def _parents(what: str, value: object) -> tuple[str, ...]:
    """Ids of jobs, from handles or ids, one or several."""
    several = value if isinstance(value, list | tuple | set | frozenset) else [value]
    ids = tuple(dict.fromkeys(name("an id in depends_on", getattr(one, "id", one)) for one in several))
    if not ids:
        raise ConfigError(f"{what} must name at least one job, got {value!r}; leave it out for none")
    return ids


def _no_field(what: str, value: object) -> None:
    """For an option that is no field of a job."""


_FIELDS: dict[str, tuple[str | None, Callable[[str, Any], Any]]] = {
    "queue": ("queue", queue_name),
    "priority": ("priority", priority),
    "delay": ("delay", seconds),
    "eta": ("scheduled_at", _moment),
    "max_retries": ("max_retries", whole),
    "timeout": ("timeout", limit),
    "result_ttl": ("result_ttl", lifetime),
    "metadata": ("metadata", _metadata),
    "tags": ("tags", _tags),
    "id": ("id", name),
    "unique_key": ("unique_key", name),
    "expires": ("expires", seconds),
    "depends_on": ("parents", _parents),
    **dict.fromkeys(("debounce", "debounce_key", "throttle", "throttle_key"), (None, _no_field)),
    "connection": (None, _no_field),
}
_UNSAID = {field.name: field.default for field in dataclasses.fields(NewJob)}
