"""What plugin authors import: the contracts, the records that travel through them, and the hooks.

Users import ``taskito``; nobody imports the submodules of either.
"""

from __future__ import annotations

from taskito_core.errors import (
    ConfigError,
    JobNotFoundError,
    MaxRetriesExceededError,
    PayloadTooLarge,
    SerializationError,
    SoftTimeoutError,
    StorageError,
    StorageUnavailable,
    TaskCancelledError,
    TaskFailedError,
    TaskitoError,
    TaskTimeoutError,
    WorkerShutdown,
)
from taskito_core.hookspecs import Offer, OfferKind, Returned, hookimpl
from taskito_core.job import (
    FINISHED,
    MOVES,
    AttemptError,
    Charge,
    Claim,
    Complete,
    Dead,
    DeadLetter,
    DeadReason,
    ErrorInfo,
    ErrorKind,
    Job,
    JobStatus,
    Move,
    NewJob,
    Outcome,
    Receipt,
    Release,
    Retry,
    Transition,
    clean_text,
    new_id,
)
from taskito_core.limits import (
    Admission,
    BreakerOptions,
    BreakerState,
    CircuitBreaker,
    Grant,
    RateLimit,
    RateLimiter,
)
from taskito_core.metrics import Measurement, Metrics, Summary
from taskito_core.periodic import CatchUp, PeriodicEntry
from taskito_core.secrecy import mask_url
from taskito_core.storage import (
    COUNT_CAP,
    Beat,
    Capability,
    CountReport,
    Counts,
    DeadPage,
    Exchange,
    JobFilter,
    Page,
    Peer,
    Storage,
    StorageConfig,
    StorageInfo,
    Wakeups,
    Want,
    WorkerInfo,
    WorkerStatus,
)

__version__ = "0.1.0"

__all__ = [
    "COUNT_CAP",
    "FINISHED",
    "MOVES",
    "Admission",
    "AttemptError",
    "Beat",
    "BreakerOptions",
    "BreakerState",
    "Capability",
    "CatchUp",
    "Charge",
    "CircuitBreaker",
    "Claim",
    "Complete",
    "ConfigError",
    "CountReport",
    "Counts",
    "Dead",
    "DeadLetter",
    "DeadPage",
    "DeadReason",
    "ErrorInfo",
    "ErrorKind",
    "Exchange",
    "Grant",
    "Job",
    "JobFilter",
    "JobNotFoundError",
    "JobStatus",
    "MaxRetriesExceededError",
    "Measurement",
    "Metrics",
    "Move",
    "NewJob",
    "Offer",
    "OfferKind",
    "Outcome",
    "Page",
    "PayloadTooLarge",
    "Peer",
    "PeriodicEntry",
    "RateLimit",
    "RateLimiter",
    "Receipt",
    "Release",
    "Retry",
    "Returned",
    "SerializationError",
    "SoftTimeoutError",
    "Storage",
    "StorageConfig",
    "StorageError",
    "StorageInfo",
    "StorageUnavailable",
    "Summary",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskTimeoutError",
    "TaskitoError",
    "Transition",
    "Wakeups",
    "Want",
    "WorkerInfo",
    "WorkerShutdown",
    "WorkerStatus",
    "__version__",
    "clean_text",
    "hookimpl",
    "mask_url",
    "new_id",
]


def _publish() -> None:
    """Let classes say where people import them from, in tracebacks and in help()."""
    for name in __all__:
        thing = globals()[name]
        if isinstance(thing, type):
            # What a task's author catches lives in the facade, the rest is for plugin authors.
            users = issubclass(thing, BaseException) or thing is JobStatus
            thing.__module__ = "taskito" if users else "taskito_core"


_publish()
