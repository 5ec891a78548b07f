"""The options of a task: which there are, and the policy and job defaults that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from taskito.client.options import job_options, limits
from taskito.client.options.job_options import Lifetime, Seconds
from taskito.config.settings import Settings
from taskito.running_job.middleware import TaskMiddleware
from taskito.serialization.serializers import Serializer
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito_core.errors import ConfigError
from taskito_core.retry import RetryPolicy

Errors = type[BaseException] | tuple[type[BaseException], ...]


class TaskOptions(TypedDict, total=False):
    """The options of ``@queue.task(...)``."""

    name: str  #: default: the function's module and qualified name
    max_retries: int  #: default: the queue's ``default_retry``
    max_crashes: int  #: runs after one under which its process died; default: the queue's ``max_crashes``
    retry_backoff: Seconds  #: before the first retry; doubles with each; default 1
    retry_delays: Sequence[Seconds] | None  #: explicit delays instead; the last one repeats
    max_retry_delay: Seconds  #: default 300
    retry_jitter: bool  #: add up to a quarter, so that a failed batch does not return as one; default True
    retry_on: Errors  #: only these are retried; default: every exception
    dont_retry_on: Errors  #: these are not, also if ``retry_on`` names them
    timeout: Seconds | None  #: hard limit of an attempt; 0 or None: none; default: ``default_timeout``
    soft_timeout: Seconds | None  #: raises SoftTimeoutError in the task; must be below ``timeout``
    priority: int  #: default: the queue's ``default_priority``
    queue: str  #: default ``default``
    result_ttl: Lifetime | None  #: default: the queue's ``result_ttl``
    serializer: Serializer | None  #: default: the queue's
    middleware: Sequence[TaskMiddleware] | None  #: inside of the queue's
    capture_output: bool  #: keep what it prints in the job's log; default False
    rate_limit: str | None  #: how often it may start, over all workers: ``"100/m"``, ``"10/s"``, ``"5/2m"``
    circuit_breaker: Mapping[str, Any] | None  #: ``{"threshold": 5, "window": 60, "cooldown": 300}``
    concurrency: int | None  #: how many of its jobs, or of those of one key, may run at once
    concurrency_key: str | None  #: ``"user:{user_id}"``: filled from the call's arguments
    debounce: Seconds | None  #: run once, so long after the last call
    debounce_key: str | None  #: ``"user:{user_id}"``: the calls that belong together; default: all of them
    throttle: Seconds | None  #: at most one job in so long: the calls after the first give that job
    throttle_key: str | None  #: as ``debounce_key``
    on_excess: Literal["wait", "drop"]  #: a job over the limit waits, or is cancelled at once


TaskOptions.__module__ = "taskito"


def read_policy(name: str, given: Mapping[str, Any], settings: Settings) -> TaskPolicy:
    hard = job_options.limit("timeout", given["timeout"]) if "timeout" in given else settings.default_timeout
    soft = job_options.limit("soft_timeout", given.get("soft_timeout")) or None
    if soft is not None and 0.0 < hard <= soft:
        raise ConfigError(f"soft_timeout {soft:g} of task {name!r} must be below its timeout {hard:g}")
    retries, crashes = given.get("max_retries"), given.get("max_crashes")
    return TaskPolicy(
        name=name,
        queue=job_options.queue_name("queue", given.get("queue", "default")),
        retry=RetryPolicy(
            max_retries=settings.default_retry
            if retries is None
            else job_options.whole("max_retries", retries),
            backoff=job_options.seconds("retry_backoff", given.get("retry_backoff", 1.0)),
            delays=delays("retry_delays", given.get("retry_delays")),
            max_delay=job_options.seconds("max_retry_delay", given.get("max_retry_delay", 300.0)),
            jitter=job_options.boolean("retry_jitter", given.get("retry_jitter", True)),
            max_crashes=settings.max_crashes
            if crashes is None
            else job_options.whole("max_crashes", crashes),
        ),
        timeout=hard,
        soft_timeout=soft,
        rate_limit=None if given.get("rate_limit") is None else limits.parse_rate(given["rate_limit"]),
        breaker=None
        if given.get("circuit_breaker") is None
        else limits.parse_breaker(given["circuit_breaker"]),
        concurrency=given.get("concurrency"),
    )


def job_defaults(policy: TaskPolicy, given: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The fields of NewJob that every job of the task has; retries and timeout are the worker's to know."""
    priority = given.get("priority")
    guarded = policy.rate_limit is not None or policy.breaker is not None
    return {
        "lane": policy.name if guarded else "",
        "task_name": policy.name,
        "queue": policy.queue,
        "priority": settings.default_priority
        if priority is None
        else job_options.priority("priority", priority),
        "result_ttl": job_options.lifetime("result_ttl", given["result_ttl"])
        if "result_ttl" in given
        else settings.result_ttl,
    }


def delays(what: str, value: object) -> tuple[float, ...] | None:
    if value is None:
        return None
    found = tuple(
        job_options.seconds(what, one) for one in job_options.sequence(what, value, "delays in seconds")
    )
    if not found:
        raise ConfigError(f"{what} must have at least one delay, got []; for no retries say max_retries=0")
    return found


def error_types(what: str, value: object) -> tuple[type[BaseException], ...]:
    """Exception classes: one, or any nesting of tuples and lists of them, as ``except`` takes."""
    if isinstance(value, list | tuple):
        return tuple(found for one in value for found in error_types(what, one))
    if not (isinstance(value, type) and issubclass(value, BaseException)):
        raise ConfigError(f"{what} must be an exception class or a tuple of them, got {value!r}")
    return (value,)


def serializer(what: str, value: object) -> Serializer:
    if isinstance(value, type):
        raise ConfigError(f"{what} must be an object, got a class; write {value.__name__}(...)")
    if not isinstance(value, Serializer):
        raise ConfigError(f"{what} must have the methods dumps and loads, got {value!r}")
    return value
