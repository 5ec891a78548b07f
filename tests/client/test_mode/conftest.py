"""A queue whose database nobody serves: whatever test mode does, it does without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskito import Queue

LONG = 60.0  #: seconds that are never reached


@pytest.fixture
def queue() -> Iterator[Queue]:
    with Queue(db_url="postgresql://nobody:secret@127.0.0.1:1/nowhere", default_retry=0) as queue:
        yield queue
