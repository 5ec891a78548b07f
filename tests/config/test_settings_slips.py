"""A Queue refuses what is nearly a setting, in processes that know no commands too."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskito.config.settings import resolve
from taskito_core.errors import ConfigError


def test_a_misspelt_variable_is_refused_and_other_programs_are_not(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="nothing reads the variable TASKITO_DBURL; did you mean TASKITO_DB_URL"
    ):
        resolve({}, environ={"TASKITO_DBURL": "postgresql://h/d"}, directory=tmp_path)

    others = ("TASKITO_TEST_POSTGRES_URL", "TASKITO_WORKER_PROCS", "TASKITO_SERVICE_PORT", "TASKITO_VERSION")
    assert resolve({}, environ=dict.fromkeys(others, "x"), directory=tmp_path).db_url is None
