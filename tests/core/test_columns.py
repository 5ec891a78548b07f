"""The description of the jobs row agrees with the records, and what is derived from it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from taskito_core import Claim, DeadLetter, DeadReason, Job, JobStatus, NewJob, columns
from taskito_core.columns import GATED, JOBS, PLAIN, Kind, SetBy

NAMES = [column.name for column in JOBS]
#: What NewJob has beside columns: how moments are given, edges, and what is decided at the insert.
NO_COLUMNS = {"delay", "expires", "parents", "drop_excess", "call_key", "window"}
EVERYTHING = NewJob(
    id="id",
    task_name="task",
    payload=b"\0",
    queue="mail",
    priority=-3,
    delay=1.0,
    max_retries=2,
    timeout=1.5,
    result_ttl=0.0,
    metadata='{"a": 1}',
    tags=("ä", "b"),
    lane="task",
    expires_at=5,
    unique_key="key",
    concurrency_key="c",
    concurrency=2,
)


def test_each_column_is_described_once() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert all(column.default is None or not column.nullable for column in JOBS)


def test_records_have_no_field_that_is_neither_a_column_nor_made_of_one() -> None:
    assert {field.name for field in fields(Job)} - set(NAMES) == {"cancel_asked"}
    assert {field.name for field in fields(NewJob)} - set(NAMES) == NO_COLUMNS
    assert set(Claim._fields) - set(NAMES) == {"due_at"}
    own = {"job_id", "reason", "traceback", "failed_at"}
    assert {field.name for field in fields(DeadLetter)} == own | (
        {field.name for field in fields(DeadLetter)} & set(columns.COPIED)
    )


def test_what_a_producer_sets_is_a_field_of_new_job() -> None:
    given = {column.name for column in JOBS if column.set_by is SetBy.PRODUCER}

    assert given <= {field.name for field in fields(NewJob)}
    assert {column.name for column in (*PLAIN, *GATED)} == given


@pytest.mark.parametrize(
    "change",
    [
        {"lane": "t"},
        {"unique_key": "k"},
        {"parents": ("p",)},
        {"expires": 0.0},
        {"expires_at": 0},
        {"concurrency_key": "k", "concurrency": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_job_with_a_key_parent_lane_or_expiry_is_not_plain(change: dict[str, object]) -> None:
    plain = NewJob(id="a", task_name="t", payload=b"", tags=("x",), delay=5.0, timeout=3.0, max_retries=0)

    assert columns.is_plain(plain)
    assert not columns.is_plain(replace(plain, **change))  # type: ignore[arg-type]


def test_values_are_in_the_order_of_the_columns_and_lists_are_json() -> None:
    found = dict(zip((column.name for column in PLAIN), columns.values_of(PLAIN)(EVERYTHING), strict=True))

    assert found["id"] == "id"
    assert found["payload"] == b"\0"
    assert found["result_ttl"] == 0.0
    assert columns.texts_in(found["tags"]) == ("ä", "b")
    assert found["tags"].isascii()
    assert [column.name for column in PLAIN if column.kind is Kind.LIST] == ["tags"]


@pytest.mark.parametrize("texts", [(), ("",), ("a", "ä"), ("\0", '"', "[]")])
def test_lists_survive(texts: tuple[str, ...]) -> None:
    assert columns.texts_in(columns.list_text(texts)) == texts


def test_a_row_becomes_a_job() -> None:
    values = dict.fromkeys(field.name for field in fields(Job)) | {
        "id": "id",
        "status": "running",
        "tags": '["x"]',
        "cancel_asked": 1,
        "payload": b"p",
    }

    job = columns.job_of(tuple(values.values()))

    assert job == Job(**(values | {"status": JobStatus.RUNNING, "tags": ("x",), "cancel_asked": True}))  # type: ignore[arg-type]
    assert job.status is JobStatus.RUNNING
    assert job.cancel_asked is True
    with pytest.raises(AttributeError):
        job.id = "other"  # type: ignore[misc]


def test_a_row_that_is_too_short_is_refused() -> None:
    with pytest.raises((ValueError, IndexError)):
        columns.job_of(("id",) * (len(fields(Job)) - 1))


def test_a_row_becomes_a_letter() -> None:
    values = dict.fromkeys(field.name for field in fields(DeadLetter)) | {"reason": "rejected", "tags": "[]"}

    letter = columns.letter_of(list(values.values()))

    assert letter == DeadLetter(**(values | {"reason": DeadReason.REJECTED, "tags": ()}))  # type: ignore[arg-type]


def test_the_lists_name_the_fields_in_order() -> None:
    names = columns.JOB_LIST.replace("\n", " ").split(",")

    assert [name.split()[-1] for name in names] == [field.name for field in fields(Job)]
    assert columns.listed(["a", "b", "c"], "j", b="1 AS b") == "j.a, 1 AS b, j.c"


def test_a_repeated_job_keeps_what_was_said_and_the_time_it_had() -> None:
    given = [getattr(EVERYTHING, name.strip()) for name in columns.REPEATED_LIST.split(",")[:-1]]
    row = [columns.list_text(value) if isinstance(value, tuple) else value for value in given]

    again = columns.repeated([*row, 2500], "new")

    assert again == replace(EVERYTHING, id="new", delay=0.0, expires_at=None, expires=2.5)
    assert columns.repeated([*row, None], "new").expires is None
    assert columns.repeated([*row, -1], "new").expires == 0.0
