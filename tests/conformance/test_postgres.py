"""The suite against PostgreSQL."""

from __future__ import annotations

import pytest

from taskito_core.testing import StorageConformance


class TestPostgres(StorageConformance):
    @pytest.fixture
    def storage_url(self, postgres_url: str) -> str:
        return postgres_url
