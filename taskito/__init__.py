"""Background jobs in child processes, kept in a database you already have. What users import.

What a plugin sees too comes with the package. The client's parts come when they are first asked for: a
supervisor imports none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

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
    Pruned,
    QueueFull,
    QueueLimits,
    Retention,
    SerializationError,
    SoftTimeoutError,
    StorageError,
    StorageUnavailable,
    TaskCancelledError,
    TaskFailedError,
    TaskitoError,
    TaskTimeoutError,
    WorkerInfo,
    WorkerShutdown,
    __version__,
)

if TYPE_CHECKING:
    from taskito.client.canvas import Signature, chain, chord, chunks, group, starmap
    from taskito.client.explain import Blocker, BlockerKind, JobExplanation
    from taskito.client.inspect import ListPage, ReplayRecord, Stats
    from taskito.client.metrics import TaskMetrics
    from taskito.client.options.job_options import JobOptions, JobSpec
    from taskito.client.options.task_options import TaskOptions
    from taskito.client.queue import Queue
    from taskito.client.results.group_result import GroupResult
    from taskito.client.results.job_result import JobResult
    from taskito.client.task import AsyncTask, Call, Task
    from taskito.client.test_mode.enqueued import EnqueuedJob
    from taskito.running_job.child_resources import ChildResource
    from taskito.running_job.current_job import current_job
    from taskito.running_job.job_context import JobContext
    from taskito.running_job.middleware import TaskMiddleware
    from taskito.serialization.failed_member import FailedMember
    from taskito.serialization.serializers import JsonSerializer, PickleSerializer, Serializer
else:
    #: Where each name of the client lives; the same as above, for the interpreter.
    _HOMES = {
        "AsyncTask": "taskito.client.task",
        "Blocker": "taskito.client.explain",
        "BlockerKind": "taskito.client.explain",
        "Call": "taskito.client.task",
        "ChildResource": "taskito.running_job.child_resources",
        "EnqueuedJob": "taskito.client.test_mode.enqueued",
        "FailedMember": "taskito.serialization.failed_member",
        "GroupResult": "taskito.client.results.group_result",
        "JobContext": "taskito.running_job.job_context",
        "JobExplanation": "taskito.client.explain",
        "JobOptions": "taskito.client.options.job_options",
        "JobResult": "taskito.client.results.job_result",
        "JobSpec": "taskito.client.options.job_options",
        "JsonSerializer": "taskito.serialization.serializers",
        "ListPage": "taskito.client.inspect",
        "PickleSerializer": "taskito.serialization.serializers",
        "Queue": "taskito.client.queue",
        "ReplayRecord": "taskito.client.inspect",
        "Serializer": "taskito.serialization.serializers",
        "Signature": "taskito.client.canvas",
        "Stats": "taskito.client.inspect",
        "Task": "taskito.client.task",
        "TaskMetrics": "taskito.client.metrics",
        "TaskMiddleware": "taskito.running_job.middleware",
        "TaskOptions": "taskito.client.options.task_options",
        "chain": "taskito.client.canvas",
        "chord": "taskito.client.canvas",
        "chunks": "taskito.client.canvas",
        "current_job": "taskito.running_job.current_job",
        "group": "taskito.client.canvas",
        "starmap": "taskito.client.canvas",
    }

    def __getattr__(name):
        if (home := _HOMES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value

    def __dir__():
        return [*globals(), *_HOMES]


__all__ = [
    "AsyncTask",
    "AttemptError",
    "Blocker",
    "BlockerKind",
    "BreakerRecord",
    "Call",
    "ChildResource",
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
    "Pruned",
    "Queue",
    "QueueFull",
    "QueueLimits",
    "ReplayRecord",
    "Retention",
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
