"""For tests of taskito and of its plugins: a store in memory, conformance suites, factories.

Comes with ``taskito-core[testing]``. What is here is imported when it is first asked for, because the hooks
of this package are imported by every program that loads plugins. Nothing in the runtime may import this
package.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskito_kv.limits import MemoryCircuitBreaker, MemoryRateLimiter
    from taskito_kv.metrics import MemoryMetrics
    from taskito_kv.storage import MemoryStorage
    from taskito_testing.conformance import (
        CircuitBreakerConformance,
        MetricsConformance,
        RateLimiterConformance,
        StorageConformance,
    )
    from taskito_testing.factories import (
        cancelled,
        claim,
        complete,
        dead,
        enqueue_and_claim,
        error_info,
        make_job,
        make_worker,
        new_token,
        release,
        retry,
        want,
    )
    from taskito_testing.opening import (
        missing_methods,
        open_breaker,
        open_limiter,
        open_metrics,
        open_storage,
    )

__all__ = [
    "CircuitBreakerConformance",
    "MemoryCircuitBreaker",
    "MemoryMetrics",
    "MemoryRateLimiter",
    "MemoryStorage",
    "MetricsConformance",
    "RateLimiterConformance",
    "StorageConformance",
    "cancelled",
    "claim",
    "complete",
    "dead",
    "enqueue_and_claim",
    "error_info",
    "make_job",
    "make_worker",
    "missing_methods",
    "new_token",
    "open_breaker",
    "open_limiter",
    "open_metrics",
    "open_storage",
    "release",
    "retry",
    "want",
]

#: module -> the names that it brings.
_HOMES = {
    "taskito_kv.limits": ("MemoryCircuitBreaker", "MemoryRateLimiter"),
    "taskito_kv.metrics": ("MemoryMetrics",),
    "taskito_kv.storage": ("MemoryStorage",),
    "taskito_testing.conformance": (
        "CircuitBreakerConformance",
        "MetricsConformance",
        "RateLimiterConformance",
        "StorageConformance",
    ),
    "taskito_testing.factories": (
        *(
            "cancelled",
            "claim",
            "complete",
            "dead",
            "enqueue_and_claim",
            "error_info",
            "make_job",
            "make_worker",
        ),
        *("new_token", "release", "retry", "want"),
    ),
    "taskito_testing.opening": (
        *("missing_methods", "open_breaker", "open_limiter", "open_metrics", "open_storage"),
    ),
}


def __getattr__(name: str) -> object:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _prepare()
    found = globals()[name] = getattr(import_module(home), name)
    return found


def _prepare() -> None:
    """Before the first name is given out: let asserts of the suite explain themselves, and open
    ``memory://``."""
    import pytest

    from taskito_testing.plugin import register_memory_plugin

    if "taskito_testing.conformance" not in sys.modules:
        pytest.register_assert_rewrite("taskito_testing.conformance")
    register_memory_plugin()
