"""Periodic tasks of a queue: declared beside the function, kept by the store, fired by the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, cast

from taskito.client import aio
from taskito.client.base import QueueBase
from taskito.client.options import job_options
from taskito.client.options.task_options import TaskOptions
from taskito.client.results.job_result import JobResult
from taskito.client.task import Task, TaskRegistry
from taskito.cron.schedule import CATCH_UP, Schedule
from taskito.serialization.serializers import dump_call
from taskito_core.errors import JobNotFoundError
from taskito_core.job import NewJob, new_id
from taskito_core.storage_worker import PeriodicEntry, PeriodicState

P = ParamSpec("P")
R = TypeVar("R")


class PeriodicOptions(TaskOptions, total=False):
    """The options of ``@queue.periodic(...)``: those of a task, and its own."""

    args: Sequence[Any]  #: with which every run is called
    kwargs: Mapping[str, Any] | None
    timezone: str  #: in which the expression is read; default UTC
    catch_up: Literal["skip", "one", "all"]  #: of slots that no worker saw pass; default skip


PeriodicOptions.__module__ = "taskito"


class Periodic(QueueBase):
    """Declaring periodic tasks, and pausing, resuming and running those that workers have registered."""

    _registry: TaskRegistry
    periodic_entries: dict[str, PeriodicEntry]  #: declared in this process, by task name

    def periodic(self, cron: str, **given: Unpack[PeriodicOptions]) -> Callable[[Callable[P, R]], Task[P, R]]:
        """Register a function as a task that also runs by itself: ``@queue.periodic("0 7 * * mon-fri")``.

        Five fields, from minutes to weekdays, or six with seconds first. The task can be called and enqueued
        like any other. Each slot fires once, however many workers there are. Raises ConfigError for an
        expression or a time zone that makes no sense, and as ``task`` does.
        """
        own = {name: given[name] for name in _OWN if name in given}  # type: ignore[literal-required]
        of_task = {name: value for name, value in given.items() if name not in _OWN}
        job_options.refuse_unknown("periodic()", given, PeriodicOptions.__annotations__)
        schedule = Schedule(cron, own.get("timezone", "UTC"))
        catch_up = job_options.one_of("catch_up", own.get("catch_up", "skip"), CATCH_UP)
        args, kwargs = job_options.call_arguments(own.get("args", ()), own.get("kwargs"))

        def decorate(function: Callable[P, R]) -> Task[P, R]:
            task = cast("Task[P, R]", self._registry.register(function, of_task))
            task.template.check_call(args, kwargs)
            policy = task.policy
            self.periodic_entries[task.name] = PeriodicEntry(
                name=task.name,
                app="",
                task_name=task.name,
                cron=schedule.cron,
                timezone=schedule.timezone,
                catch_up=catch_up,
                queue=policy.queue,
                payload=dump_call(task.serializer, args, kwargs),
                priority=task.template.defaults["priority"],
                result_ttl=task.template.defaults["result_ttl"],
            )
            return task

        return decorate

    def periodic_tasks(self) -> list[PeriodicState]:
        """Every periodic task that workers have registered, by name."""
        return self.storage.periodic()

    def pause_periodic(self, name: str) -> None:
        """Let a periodic task fire no more until it is resumed, also after restarts; or JobNotFoundError."""
        self._enable_periodic(name, False)

    def resume_periodic(self, name: str) -> None:
        """Let a periodic task fire again, from its next slot on; what it missed meanwhile does not count."""
        self._enable_periodic(name, True)

    def run_periodic(self, name: str) -> JobResult[Any]:
        """Enqueue a periodic task now, beside its schedule, whether it is paused or not."""
        entry = self._periodic_state(name).entry
        job = NewJob(
            id=new_id(),
            task_name=entry.task_name,
            payload=entry.payload,
            queue=entry.queue,
            priority=entry.priority,
            max_retries=entry.max_retries,
            timeout=entry.timeout,
            result_ttl=entry.result_ttl,
            metadata=entry.metadata,
            tags=entry.tags,
        )
        [receipt] = self.storage.enqueue([job])
        return self._handle(receipt.id)

    aperiodic_tasks = aio.twin(periodic_tasks)
    apause_periodic = aio.twin(pause_periodic)
    aresume_periodic = aio.twin(resume_periodic)
    arun_periodic = aio.twin(run_periodic)

    def _enable_periodic(self, name: str, enabled: bool) -> None:
        entry = self._periodic_state(name).entry
        next_run = None
        if enabled:
            next_run = Schedule(entry.cron, entry.timezone).next_after(self.storage.now())
        self.storage.enable_periodic(name, enabled, next_run)

    def _periodic_state(self, name: str) -> PeriodicState:
        states = {state.entry.name: state for state in self.storage.periodic()}
        if job_options.name("name", name) not in states:
            listed = ", ".join(states) or "none"
            raise JobNotFoundError(
                f"there is no periodic task {name!r}; registered by workers so far: {listed}"
            )
        return states[name]


#: The options that are not the task's.
_OWN = ("args", "kwargs", "timezone", "catch_up")
