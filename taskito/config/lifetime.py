"""How long something is kept, as people say it."""

from __future__ import annotations

import math

from taskito_core.coerce import duration
from taskito_core.job import FOREVER


def lifetime(value: object) -> float:
    """A duration; infinity and the text ``forever`` are FOREVER."""
    never_ends = value == math.inf or (isinstance(value, str) and value.strip().lower() == "forever")
    return FOREVER if never_ends else duration(value)
