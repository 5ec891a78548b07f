"""What a worker knows about an app without importing it: plain data that crosses a socket as JSON.

The zygote (or a spawned child) imports the app and reports; the supervisor decides by it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from taskito_core.limits import BreakerOptions, RateLimit
from taskito_core.retry import RetryPolicy
from taskito_core.storage import StorageConfig
from taskito_core.storage_worker import PeriodicEntry


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """How jobs of one task are treated unless the job's own options differ."""

    name: str
    queue: str
    retry: RetryPolicy
    timeout: float  #: hard limit in seconds; 0: none
    soft_timeout: float | None = None  #: seconds; below ``timeout``; None: none
    rate_limit: RateLimit | None = None  #: how many may start, over all workers
    breaker: BreakerOptions | None = None
    concurrency: int | None = None  #: how many of its jobs, or of those of one key, may run at once
    is_async: bool = False  #: its function is a coroutine function: several may run in one child
    notify: bool = False  #: the app has callbacks that want to know of its failed attempts


@dataclass(frozen=True, slots=True)
class AppManifest:
    """Everything the supervisor needs to know about an app."""

    app: str  #: ``module:attribute`` as it was asked for
    storage: StorageConfig
    tasks: dict[str, TaskPolicy]
    queues: tuple[str, ...]  #: every queue name the app's tasks use, and "default"; sorted
    workers: int  #: the app's setting; 0: as many as there are CPUs
    max_payload: int  #: bytes
    metrics: str | None = None  #: the app's setting: the name or URL of a sink; None: the store's own
    plugins: tuple[str, ...] | None = None  #: the app's setting: names of the plugins to use; None: all
    modules: tuple[str, ...] = ()  #: modules that importing the app brought in from outside the libraries
    threads: tuple[str, ...] = ()  #: names of threads the import left running: forking is unsafe then
    #: native libraries with threads that a forked child would miss, and the names of those
    native_threads: tuple[str, ...] = ()
    periodic: tuple[PeriodicEntry, ...] = ()  #: what the app wants to be run on a schedule
    limiter: str | None = None  #: the app's setting: name or URL of the limiter; None: the store's own
    breaker: str | None = None  #: the same for circuit breakers

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), default=bytes.hex).encode()

    @classmethod
    def from_json(cls, text: bytes) -> AppManifest:
        raw = json.loads(text)
        return cls(
            app=raw["app"],
            storage=StorageConfig(**raw["storage"]),
            tasks={name: _policy(policy) for name, policy in raw["tasks"].items()},
            queues=tuple(raw["queues"]),
            workers=raw["workers"],
            max_payload=raw["max_payload"],
            metrics=raw["metrics"],
            plugins=None if raw["plugins"] is None else tuple(raw["plugins"]),
            modules=tuple(raw["modules"]),
            threads=tuple(raw["threads"]),
            native_threads=tuple(raw["native_threads"]),
            periodic=tuple(map(_entry, raw["periodic"])),
            limiter=raw["limiter"],
            breaker=raw["breaker"],
        )


def _entry(raw: dict[str, Any]) -> PeriodicEntry:
    return PeriodicEntry(**{**raw, "payload": bytes.fromhex(raw["payload"]), "tags": tuple(raw["tags"])})


def _policy(raw: dict[str, Any]) -> TaskPolicy:
    retry, limit, breaker = raw.pop("retry"), raw.pop("rate_limit"), raw.pop("breaker")
    delays = retry.pop("delays")
    return TaskPolicy(
        retry=RetryPolicy(**retry, delays=None if delays is None else tuple(delays)),
        rate_limit=limit and RateLimit(**limit),
        breaker=breaker and BreakerOptions(**breaker),
        **raw,
    )
