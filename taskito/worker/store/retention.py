"""How long the store keeps what has ended, in words."""

from __future__ import annotations

from taskito_core.storage_worker import Retention

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))


def said_of(retention: Retention) -> str:
    """What the first worker of a store says."""
    return (
        f"kept in this store: finished jobs {span(retention.finished)}, dead jobs {span(retention.dead)}, "
        f"job logs {span(retention.logs)}, metrics {span(retention.metrics)}; 'taskito retention' changes it"
    )


def span(seconds: float | None) -> str:
    """``7d``, ``90s`` or ``forever``: as ``taskito retention`` takes it."""
    if seconds is None:
        return "forever"
    for unit, length in _UNITS:
        if seconds and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"
