"""The worker of threads on every store, the memory of this process among them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskito import Queue
from taskito_core.job import new_id
from taskito_kv.store import forget
from taskito_testing.plugin import register_memory_plugin

LONG = 60.0  #: seconds that are never reached


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty store on each backend in turn, the memory of this process among them."""
    if request.param != "memory":
        yield request.getfixturevalue(f"{request.param}_url")
        return
    register_memory_plugin()
    name = new_id()
    yield f"memory://{name}"
    forget(name)


@pytest.fixture
def queue(backend_url: str) -> Iterator[Queue]:
    with Queue(db_url=backend_url, workers=2, default_retry=0) as queue:
        yield queue
