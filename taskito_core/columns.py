"""The row of a job, described once: stores derive their column lists, insert values and records from it.

A column that ``enqueue`` sets is a field of ``NewJob`` of the same name; one that readers see is a field of
``Job`` (and of ``DeadLetter`` or ``Claim``) of the same name. A new column needs a line here, those fields,
and a migration in each store. Columns that one store alone needs (a row number, a partition) are not listed.

Lists are kept as JSON text, moments as integer milliseconds since the epoch, durations as float seconds.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from enum import Enum, auto
from typing import Any, NamedTuple, TypeVar

from taskito_core.job import DeadLetter, DeadReason, Job, JobStatus, NewJob

Record = TypeVar("Record")


class Kind(Enum):
    """What a column holds. Each store has one type of its own for each."""

    TEXT = auto()
    INTEGER = auto()  #: 64 bits
    REAL = auto()  #: a double
    BOOLEAN = auto()
    BYTES = auto()
    LIST = auto()  #: of texts, as the text of a JSON list


class SetBy(Enum):
    """Who gives a column its first value."""

    PRODUCER = auto()  #: the NewJob's field of the same name, as it is
    INSERT = auto()  #: the store when it inserts the row: from its clock and other fields of the NewJob
    LIFE = auto()  #: the store afterwards; the column's default until then


class Column(NamedTuple):
    """One column of ``jobs``."""

    name: str
    kind: Kind
    set_by: SetBy
    nullable: bool = True
    default: str | int | None = None  #: of a column that is not nullable
    #: Only jobs that say something about waiting, keys or lanes have it: see ``is_plain``.
    gated: bool = False
    #: ``dead_letter`` has a column of the same name, with the value that the job had when it died.
    in_letter: bool = False


#: Every column that all stores have.
JOBS = (
    Column("id", Kind.TEXT, SetBy.PRODUCER, nullable=False),
    Column("task_name", Kind.TEXT, SetBy.PRODUCER, nullable=False, in_letter=True),
    Column("queue", Kind.TEXT, SetBy.PRODUCER, nullable=False, in_letter=True),
    Column("priority", Kind.INTEGER, SetBy.PRODUCER, nullable=False, in_letter=True),
    Column("payload", Kind.BYTES, SetBy.PRODUCER, nullable=False, in_letter=True),
    Column("max_retries", Kind.INTEGER, SetBy.PRODUCER, in_letter=True),
    Column("timeout", Kind.REAL, SetBy.PRODUCER, in_letter=True),
    Column("result_ttl", Kind.REAL, SetBy.PRODUCER, in_letter=True),
    Column("metadata", Kind.TEXT, SetBy.PRODUCER, in_letter=True),
    Column("tags", Kind.LIST, SetBy.PRODUCER, nullable=False, default="[]", in_letter=True),
    Column("lane", Kind.TEXT, SetBy.PRODUCER, nullable=False, default="", gated=True, in_letter=True),
    Column("unique_key", Kind.TEXT, SetBy.PRODUCER, gated=True, in_letter=True),
    Column("tolerant", Kind.BOOLEAN, SetBy.PRODUCER, nullable=False, default=0, gated=True),
    Column("concurrency_key", Kind.TEXT, SetBy.PRODUCER, gated=True, in_letter=True),
    Column("concurrency", Kind.INTEGER, SetBy.PRODUCER, gated=True, in_letter=True),
    Column("status", Kind.TEXT, SetBy.INSERT, nullable=False),
    Column("created_at", Kind.INTEGER, SetBy.INSERT, nullable=False, in_letter=True),
    Column("scheduled_at", Kind.INTEGER, SetBy.INSERT, nullable=False),
    Column("expires_at", Kind.INTEGER, SetBy.INSERT, gated=True, in_letter=True),
    Column("delayed_at", Kind.INTEGER, SetBy.INSERT),  # from when scheduled_at was counted; NULL: it was not
    Column("expires_from", Kind.INTEGER, SetBy.INSERT, gated=True),  # the same of expires_at
    Column("gate", Kind.TEXT, SetBy.INSERT, gated=True),
    Column("token", Kind.INTEGER, SetBy.LIFE),
    Column("worker", Kind.TEXT, SetBy.LIFE),
    Column("claimed_at", Kind.INTEGER, SetBy.LIFE),
    Column("started_at", Kind.INTEGER, SetBy.LIFE),
    Column("completed_at", Kind.INTEGER, SetBy.LIFE),
    Column("prune_at", Kind.INTEGER, SetBy.LIFE),
    Column("retry_count", Kind.INTEGER, SetBy.LIFE, nullable=False, default=0, in_letter=True),
    Column("crashes", Kind.INTEGER, SetBy.LIFE, nullable=False, default=0, in_letter=True),
    Column("interruptions", Kind.INTEGER, SetBy.LIFE, nullable=False, default=0, in_letter=True),
    Column("slot", Kind.INTEGER, SetBy.LIFE),  # of its concurrency key, while claimable or running
    Column("cancel_force", Kind.BOOLEAN, SetBy.LIFE),  # NULL: not asked to cancel while it runs
    Column("progress", Kind.REAL, SetBy.LIFE),
    Column("error", Kind.TEXT, SetBy.LIFE, in_letter=True),
    Column("result", Kind.BYTES, SetBy.LIFE),
)


def listed(names: Iterable[str], table: str = "", **instead: str) -> str:
    """The names as an SQL list of several lines: each as ``table.name`` or its expression in ``instead``."""
    prefix = f"{table}." if table else ""
    items = (instead.get(name, prefix + name) for name in names)
    return textwrap.fill(", ".join(items), 100, subsequent_indent=" " * 7, break_long_words=False)


# ---- inserting ----

#: What ``enqueue`` is told about any job, and goes into the row as it is.
PLAIN = tuple(column for column in JOBS if column.set_by is SetBy.PRODUCER and not column.gated)
#: What goes into the row as it is besides, of jobs that are not plain.
GATED = tuple(column for column in JOBS if column.set_by is SetBy.PRODUCER and column.gated)


def _compiled(expression: str) -> Callable[[NewJob], Any]:
    """``lambda job: expression``. Each runs for every job, where an attrgetter would take twice as long."""
    function: Callable[[NewJob], Any] = eval(f"lambda job: {expression}")
    return function


def _is_untouched(name: str) -> str:
    """The expression that a field of a NewJob has its default."""
    default = getattr(NewJob(id="", task_name="", payload=b""), name)
    return f"job.{name} is None" if default is None else f"job.{name} == {default!r}"


_GATES = ("parents", "expires_at", "expires", "call_key", *(column.name for column in GATED))

#: True for a job without a key, parent, lane or expiry: PLAIN and its moments describe all of it.
is_plain: Callable[[NewJob], bool] = _compiled(" and ".join(map(_is_untouched, _GATES)))


def values_of(columns: Sequence[Column]) -> Callable[[NewJob], tuple[Any, ...]]:
    """A function from a NewJob to its values for these columns, in their order; lists as JSON text."""
    values = (
        f"list_text(job.{column.name})" if column.kind is Kind.LIST else f"job.{column.name}"
        for column in columns
    )
    return _compiled(f"({', '.join(values)},)")


def list_text(texts: Sequence[str]) -> str:
    """How a column of ``Kind.LIST`` keeps these texts. ASCII only, so every store can."""
    return json.dumps(texts) if texts else "[]"


def texts_in(text: str) -> tuple[str, ...]:
    """The texts that a column of ``Kind.LIST`` holds."""
    return () if text == "[]" else tuple(json.loads(text))


# ---- reading ----


def names_in(record: type) -> list[str]:
    """The names of a dataclass' fields, in order: what a row must hold that ``reader`` takes."""
    return [field.name for field in fields(record)]


def reader(record: type[Record], **decode: Callable[[Any], Any]) -> Callable[[Sequence[Any]], Record]:
    """A function from a row to ``record``: the row has its fields in order, ``decode`` converts some of them.

    ``record`` must be a frozen dataclass with slots and no ``__post_init__``. The slots are filled directly:
    its own ``__init__``, which has to get around the freeze, takes twice as long.
    """
    names = names_in(record)
    setters = [getattr(record, name).__set__ for name in names]
    decoders = [(names.index(name), function) for name, function in decode.items()]

    def read(row: Sequence[Any]) -> Record:
        values = list(row)
        for index, function in decoders:
            values[index] = function(values[index])
        made = object.__new__(record)
        for set_value, value in zip(setters, values, strict=True):
            set_value(made, value)
        return made

    return read


#: The list of a SELECT from ``jobs`` whose rows ``job_of`` takes.
JOB_LIST = listed(
    names_in(Job), cancel_asked="(status = 'running' AND cancel_force IS NOT NULL) AS cancel_asked"
)
job_of = reader(Job, status=JobStatus, tags=texts_in, cancel_asked=bool)

#: The list of a SELECT from ``dead_letter`` whose rows ``letter_of`` takes.
LETTER_LIST = listed(names_in(DeadLetter))
letter_of = reader(DeadLetter, reason=DeadReason, tags=texts_in)


# ---- burying and repeating ----

#: What ``dead_letter`` copies from the row of a job. It also has job_id, reason, traceback and failed_at.
COPIED = tuple(column.name for column in JOBS if column.in_letter)

_REPEATED = tuple(column.name for column in JOBS if column.set_by is SetBy.PRODUCER and column.name in COPIED)
#: The list of a SELECT from ``jobs`` or ``dead_letter`` whose rows ``repeated`` takes.
REPEATED_LIST = listed((*_REPEATED, "expires_at - created_at"))


def repeated(row: Sequence[Any], new_id: str) -> NewJob:
    """A job that repeats the one of this row, due at once, with as much time to start as that had."""
    *values, patience = row
    given = dict(zip(_REPEATED, values, strict=True))
    given["tags"] = texts_in(given["tags"])
    return NewJob(id=new_id, expires=None if patience is None else max(patience, 0) / 1000, **given)
