"""Periodic tasks of a queue: declared beside the function, kept by the store, fired by the workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, cast

from taskito.client import options
from taskito.client.options import TaskOptions
from taskito.client.task import Task, call_arguments
from taskito.cron.schedule import CATCH_UP, Schedule
from taskito.serialization.serializers import dump_call
from taskito_core.errors import ConfigError
from taskito_core.storage_worker import PeriodicEntry

P = ParamSpec("P")
R = TypeVar("R")


class PeriodicOptions(TaskOptions, total=False):
    """What ``@queue.periodic(...)`` can be told beside its cron expression; and all that a task can be."""

    args: Sequence[Any]  #: with which every run is called
    kwargs: Mapping[str, Any] | None
    timezone: str  #: in which the expression is read; default UTC
    catch_up: Literal["skip", "one", "all"]  #: what becomes of slots that nobody saw pass; default skip


PeriodicOptions.__module__ = "taskito"


class Scheduling(ABC):
    """``@queue.periodic`` and what the workers are told of it."""

    _periodic: dict[str, PeriodicEntry]

    @abstractmethod
    def _register(self, function: Callable[..., Any], given: Mapping[str, Any]) -> Task[..., Any]: ...

    def periodic(self, cron: str, **given: Unpack[PeriodicOptions]) -> Callable[[Callable[P, R]], Task[P, R]]:
        """Register a function as a task that also runs by itself: ``@queue.periodic("0 7 * * mon-fri")``.

        Five fields, from minutes to weekdays, or six with seconds first. The task can be called and enqueued
        like any other. Each slot fires once, however many workers there are. Raises ConfigError for an
        expression or a time zone that makes no sense, and as ``task`` does.
        """
        own = {name: given[name] for name in _OWN if name in given}  # type: ignore[literal-required]
        of_task = {name: value for name, value in given.items() if name not in _OWN}
        options.refuse_unknown("periodic()", given, PeriodicOptions.__annotations__)
        schedule = Schedule(cron, own.get("timezone", "UTC"))
        catch_up = own.get("catch_up", "skip")
        if catch_up not in CATCH_UP:
            raise ConfigError(f"catch_up must be one of {', '.join(CATCH_UP)}, got {catch_up!r}")
        args, kwargs = call_arguments(own.get("args", ()), own.get("kwargs"))

        def decorate(function: Callable[P, R]) -> Task[P, R]:
            task = cast("Task[P, R]", self._register(function, of_task))
            task._check_call(args, kwargs)
            policy = task.policy
            self._periodic[task.name] = PeriodicEntry(
                name=task.name,
                app="",
                task_name=task.name,
                cron=schedule.cron,
                timezone=schedule.timezone,
                catch_up=catch_up,
                queue=policy.queue,
                payload=dump_call(task.serializer, args, kwargs),
                priority=task._defaults["priority"],
                result_ttl=task._defaults["result_ttl"],
            )
            return task

        return decorate


_OWN = ("args", "kwargs", "timezone", "catch_up")
