"""What ``taskito doctor`` reads."""

from __future__ import annotations

SET_BACK = """
-- When the clock was set back last, and by how much; NULL: never.
SELECT set_back_at, set_back_by FROM clock
"""
