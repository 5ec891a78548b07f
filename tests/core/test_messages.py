"""The texts that stores write: in Python and in SQL the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from string import Formatter

import pytest

from taskito_core import DeadReason, ErrorKind, messages

#: All but those that format a number, which only Python does.
TEMPLATES = {
    name: text
    for name, text in vars(messages).items()
    if name.isupper() and isinstance(text, str) and not any(part[2] for part in Formatter().parse(text))
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_says_the_same_in_sql(name: str) -> None:
    fields = [field for _, field, _, _ in Formatter().parse(TEMPLATES[name]) if field]
    values = {field: f"it's {field}" for field in fields}
    expression = messages.as_sql(TEMPLATES[name], **{field: f":{field}" for field in fields})

    with closing(sqlite3.connect(":memory:")) as connection:
        [said] = connection.execute(f"SELECT {expression}", values).fetchone()

    assert said == TEMPLATES[name].format(**values)


def test_an_expiry_is_told_in_utc_to_the_millisecond() -> None:
    assert messages.expired(1_577_836_800_250) == "expired: not started by 2020-01-01T00:00:00.250+00:00"


def test_a_lost_worker_is_named() -> None:
    error = messages.worker_lost("w1")

    assert (error.kind, error.type) == (ErrorKind.INTERRUPTED, "WorkerLost")
    assert error.message == "worker w1 is gone; the job was taken back from it"
    assert messages.worker_lost(None).message.startswith("worker ? is gone")


def test_a_rejected_outcome_says_why() -> None:
    dead = messages.rejected("id", 7, ValueError("too large"))

    assert (dead.job_id, dead.token, dead.reason, dead.charge) == ("id", 7, DeadReason.REJECTED, None)
    assert dead.error.summary == "ValueError: the outcome could not be stored: too large"


def test_missing_parents_are_named_but_not_all_of_ten_thousand() -> None:
    said = messages.missing_parents("child", [f"p{number}" for number in range(10_000)])

    assert said.startswith("job child depends on what is not stored: p0, p1, p2, p3, p4;")
    assert len(said) < 200
