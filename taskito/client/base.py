"""What the parts of a queue have in common. The parts are siblings: each knows this and no other part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from taskito.client.aio import EndListener
from taskito.client.results.job_result import JobResult
from taskito.config.settings import Settings
from taskito.serialization.serializers import Serializer
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito_core.job import Job
from taskito_core.limits import CircuitBreaker, RateLimiter
from taskito_core.metrics import Metrics
from taskito_core.storage import Storage

if TYPE_CHECKING:
    from taskito.serialization.shown import Parameters


class Backends(Protocol):
    """Where jobs live and what limits them: what the settings name, or a stand-in for tests."""

    @property
    def storage(self) -> Storage: ...
    @property
    def sink(self) -> Metrics: ...

    def open_breaker(self) -> CircuitBreaker: ...

    def open_limiter(self) -> RateLimiter: ...


class RegisteredTask(Protocol):
    """A task that this process knows."""

    @property
    def policy(self) -> TaskPolicy: ...
    @property
    def serializer(self) -> Serializer: ...
    @property
    def function(self) -> Callable[..., Any]: ...


class QueueBase(ABC):
    """Settings, tasks and backends of a queue, for its parts.

    Whatever asks the store raises StorageUnavailable if it does not answer.
    """

    settings: Settings
    _end_listener: EndListener
    serializer: Serializer  #: of tasks that have none of their own

    @property
    @abstractmethod
    def backends(self) -> Backends:
        """Those of the innermost ``test_mode`` block, or those that the settings name."""

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, RegisteredTask]:
        """Every registered task, by name."""

    @property
    @abstractmethod
    def _in_test_mode(self) -> bool: ...

    @abstractmethod
    def _handle(self, job_id: str, job: Job | None = None) -> JobResult[Any]:
        """The handle of a job. ``job``: as it was just read."""

    @property
    def storage(self) -> Storage:
        """This process's storage; made without I/O, opened by its first use."""
        return self.backends.storage

    @property
    def end_listener(self) -> EndListener | None:
        """What coroutines wait for jobs with; None in test mode, where who waits for a job runs it."""
        return None if self._in_test_mode else self._end_listener

    @property
    def sink(self) -> Metrics:
        """This process's metrics sink, as ``storage``. Raises ConfigError if no metrics are kept."""
        return self.backends.sink

    def serializer_of(self, task_name: str) -> Serializer:
        """What reads the results of this task, which may be another app's."""
        task = self.tasks.get(task_name)
        return self.serializer if task is None else task.serializer

    def parameters_of(self, task_name: str) -> Parameters:
        """What the function of this task calls its positional arguments; nothing of one of another app."""
        from taskito.serialization.shown import NAMELESS, parameters_in

        task = self.tasks.get(task_name)
        return NAMELESS if task is None else parameters_in(task.function)
