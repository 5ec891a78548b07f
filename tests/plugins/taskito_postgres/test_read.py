"""Filters over what jsonb refuses."""

from __future__ import annotations

from typing import Any

from taskito_core import JobFilter
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import make_job


def test_metadata_that_jsonb_refuses_can_be_filtered(storage: PostgresStorage) -> None:
    texts = [
        '{"a": "x\\u0000y", "b": 1}',
        '{"a": "\\ud83d\\ude00"}',
        '{"a": "\\ud83d"}',
        '{"a": "\\\\u0000"}',
        None,
    ]
    ids = [storage.enqueue([make_job(metadata=text)])[0].id for text in texts]

    def found(**metadata: Any) -> list[str]:
        return [job.id for job in storage.list_jobs(JobFilter(metadata=metadata), 10, None).jobs]

    assert found(a="x\0y") == [ids[0]]
    assert found(b=1) == [ids[0]]
    assert found(a="😀") == [ids[1]]
    assert found(a="\ud83d") == [ids[2]]
    assert found(a="\\u0000") == [ids[3]]
