"""For tests of taskito and of its plugins: a store in memory, conformance suites, factories.

Needs ``taskito-core[testing]``. Nothing in the runtime may import this package.
"""

import pytest

# Before the first import of the suite: without it a third party sees bare AssertionErrors.
pytest.register_assert_rewrite("taskito_testing.conformance")

from taskito_kv.limits import MemoryCircuitBreaker, MemoryRateLimiter  # noqa: E402
from taskito_kv.metrics import MemoryMetrics  # noqa: E402
from taskito_kv.storage import MemoryStorage  # noqa: E402
from taskito_testing.conformance import (  # noqa: E402
    CircuitBreakerConformance,
    MetricsConformance,
    RateLimiterConformance,
    StorageConformance,
)
from taskito_testing.factories import (  # noqa: E402
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
from taskito_testing.opening import (  # noqa: E402
    missing_methods,
    open_breaker,
    open_limiter,
    open_metrics,
    open_storage,
)
from taskito_testing.plugin import register_memory_plugin  # noqa: E402

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

register_memory_plugin()
