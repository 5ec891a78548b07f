"""Metadata is for labels: small, and refused at the call if it is not."""

from __future__ import annotations

import pytest

from taskito import PayloadTooLarge, Queue


def test_metadata_over_its_limit_is_refused_and_nothing_is_stored(sqlite_url: str) -> None:
    with Queue(db_url=sqlite_url) as queue:
        with pytest.raises(PayloadTooLarge, match="metadata is 1048"):
            queue.enqueue("work", metadata={"note": "x" * 1024 * 1024})

        assert queue.stats()["pending"] == 0
