"""Which SQLite is refused, and what a database tells of its file."""

from __future__ import annotations

import pytest

from taskito_core import ConfigError
from taskito_sqlite.connection import require_version


def test_an_old_sqlite_is_refused_with_both_versions() -> None:
    with pytest.raises(ConfigError, match=r"needs SQLite 3\.35 or newer.*3\.34\.1"):
        require_version((3, 34, 1))
    require_version((3, 35, 0))
