"""What plugin authors import: the contracts, the records that travel through them, and the hooks.

Users import ``taskito``. Programs and plugins import no submodule of either.
"""

from __future__ import annotations

from taskito_core import columns, messages
from taskito_core.circuit_breaker import Breaker, BreakerStep, KeptBreaker, StoredBreaker
from taskito_core.directories import runtime_directory
from taskito_core.errors import (
    ConfigError,
    JobCancelled,
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
from taskito_core.external import driver_connection
from taskito_core.hookspecs import Offer, OfferKind, Returned, RunningJob, hookimpl
from taskito_core.job import (
    FINISHED,
    FOREVER,
    MOVES,
    AttemptError,
    Cancelled,
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
    BreakerRecord,
    BreakerState,
    CircuitBreaker,
    Grant,
    RateLimit,
    RateLimiter,
    Wants,
)
from taskito_core.metrics import METRICS_KEPT, Metrics, Sketch, Tallies, Tally
from taskito_core.redact import mask_url
from taskito_core.storage import Capability, Storage, StorageConfig, StorageInfo
from taskito_core.storage_client import (
    COUNT_CAP,
    CountReport,
    Counts,
    DeadPage,
    Edge,
    Facts,
    Gate,
    JobFilter,
    LogFilter,
    Page,
    Replay,
    StorageClient,
)
from taskito_core.storage_worker import (
    Beat,
    Exchange,
    LogEntry,
    Note,
    Peer,
    PeriodicEntry,
    PeriodicState,
    Progress,
    Pruned,
    Retention,
    StorageWorker,
    Swept,
    Wakeups,
    Want,
    WorkerInfo,
    WorkerStatus,
)
from taskito_core.token_bucket import CLOCK_PATIENCE, Bucket

__version__ = "0.1.0"

__all__ = [
    "CLOCK_PATIENCE",
    "COUNT_CAP",
    "FINISHED",
    "FOREVER",
    "METRICS_KEPT",
    "MOVES",
    "Admission",
    "AttemptError",
    "Beat",
    "Breaker",
    "BreakerOptions",
    "BreakerRecord",
    "BreakerState",
    "BreakerStep",
    "Bucket",
    "Cancelled",
    "Capability",
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
    "Edge",
    "ErrorInfo",
    "ErrorKind",
    "Exchange",
    "Facts",
    "Gate",
    "Grant",
    "Job",
    "JobCancelled",
    "JobFilter",
    "JobNotFoundError",
    "JobStatus",
    "KeptBreaker",
    "LogEntry",
    "LogFilter",
    "MaxRetriesExceededError",
    "Metrics",
    "Move",
    "NewJob",
    "Note",
    "Offer",
    "OfferKind",
    "Outcome",
    "Page",
    "PayloadTooLarge",
    "Peer",
    "PeriodicEntry",
    "PeriodicState",
    "Progress",
    "Pruned",
    "RateLimit",
    "RateLimiter",
    "Receipt",
    "Release",
    "Replay",
    "Retention",
    "Retry",
    "Returned",
    "RunningJob",
    "SerializationError",
    "Sketch",
    "SoftTimeoutError",
    "Storage",
    "StorageClient",
    "StorageConfig",
    "StorageError",
    "StorageInfo",
    "StorageUnavailable",
    "StorageWorker",
    "StoredBreaker",
    "Swept",
    "Tallies",
    "Tally",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskTimeoutError",
    "TaskitoError",
    "Transition",
    "Wakeups",
    "Want",
    "Wants",
    "WorkerInfo",
    "WorkerShutdown",
    "WorkerStatus",
    "__version__",
    "clean_text",
    "columns",
    "driver_connection",
    "hookimpl",
    "mask_url",
    "messages",
    "new_id",
    "runtime_directory",
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
