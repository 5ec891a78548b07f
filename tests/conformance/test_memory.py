"""The suite against the storage that is the contract's executable reading."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskito_core.job import new_id
from taskito_kv.store import forget
from taskito_testing import StorageConformance


class TestMemory(StorageConformance):
    single_process = True

    @pytest.fixture
    def storage_url(self) -> Iterator[str]:
        name = new_id()
        yield f"memory://{name}"
        forget(name)
