"""Background jobs in child processes, kept in a database you already have. What users import."""

from __future__ import annotations

from taskito_core import (
    AttemptError,
    BreakerRecord,
    ConfigError,
    DeadLetter,
    DeadReason,
    ErrorKind,
    JobCancelled,
    JobNotFoundError,
    JobStatus,
    LogEntry,
    MaxRetriesExceededError,
    PayloadTooLarge,
    PeriodicEntry,
    PeriodicState,
    SerializationError,
    SoftTimeoutError,
    StorageError,
    StorageUnavailable,
    TaskCancelledError,
    TaskFailedError,
    TaskitoError,
    TaskMetrics,
    TaskTimeoutError,
    WorkerInfo,
    WorkerShutdown,
    __version__,
)
from taskito_core.acting import ReplayRecord
from taskito_core.canvas import Signature, chain, chord, chunks, group, starmap
from taskito_core.context import JobContext, current_job
from taskito_core.explaining import Blocker, BlockerKind, JobExplanation
from taskito_core.group_result import FailedMember, GroupResult
from taskito_core.middleware import TaskMiddleware
from taskito_core.options import JobOptions, JobSpec, TaskOptions
from taskito_core.queue import Queue
from taskito_core.reading import ListPage, Stats
from taskito_core.result import JobResult
from taskito_core.serializers import JsonSerializer, PickleSerializer, Serializer
from taskito_core.task import AsyncTask, Call, Task
from taskito_core.testmode import EnqueuedJob

__all__ = [
    "AsyncTask",
    "AttemptError",
    "Blocker",
    "BlockerKind",
    "BreakerRecord",
    "Call",
    "ConfigError",
    "DeadLetter",
    "DeadReason",
    "EnqueuedJob",
    "ErrorKind",
    "FailedMember",
    "GroupResult",
    "JobCancelled",
    "JobContext",
    "JobExplanation",
    "JobNotFoundError",
    "JobOptions",
    "JobResult",
    "JobSpec",
    "JobStatus",
    "JsonSerializer",
    "ListPage",
    "LogEntry",
    "MaxRetriesExceededError",
    "PayloadTooLarge",
    "PeriodicEntry",
    "PeriodicState",
    "PickleSerializer",
    "Queue",
    "ReplayRecord",
    "SerializationError",
    "Serializer",
    "Signature",
    "SoftTimeoutError",
    "Stats",
    "StorageError",
    "StorageUnavailable",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskMetrics",
    "TaskMiddleware",
    "TaskOptions",
    "TaskTimeoutError",
    "TaskitoError",
    "WorkerInfo",
    "WorkerShutdown",
    "__version__",
    "chain",
    "chord",
    "chunks",
    "current_job",
    "group",
    "starmap",
]
