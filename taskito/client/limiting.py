"""What holds jobs back, as people ask about it: circuit breakers, and why a job does not run."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from taskito.client import aio, options
from taskito.client.explain import JobExplanation, Limits, explain
from taskito.client.metering import Metering
from taskito_core.errors import StorageUnavailable, not_found
from taskito_core.job import JobStatus
from taskito_core.limits import BreakerRecord, CircuitBreaker, RateLimiter

if TYPE_CHECKING:
    from taskito.client.task import Task


class Limiting(Metering):
    """Each raises StorageUnavailable if the store does not answer."""

    _tasks: dict[str, Task[..., Any]]

    def circuit_breakers(self) -> list[BreakerRecord]:
        """The circuit breakers that workers have asked so far, by task name."""
        with closing(self._breaker()) as breaker:
            return breaker.read()

    def reset_circuit_breaker(self, task_name: str) -> bool:
        """Close a task's breaker and forget its failures; False if there is none."""
        with closing(self._breaker()) as breaker:
            return breaker.reset(options.name("task_name", task_name))

    def explain(self, job_id: str) -> JobExplanation:
        """Why a job does not run: everything that stands in its way now. ``print`` shows it as text.

        Of its rate limit only a process that has the task can tell. Raises JobNotFoundError.
        """
        found = self.storage.facts(options.name("job_id", job_id))
        if found is None:
            raise not_found(job_id)
        pending = found.job.status is JobStatus.PENDING
        limits = self._limits_of(found.lane) if found.lane and pending else None
        return explain(found, self.storage.workers(), limits)

    acircuit_breakers = aio.twin(circuit_breakers)
    areset_circuit_breaker = aio.twin(reset_circuit_breaker)
    aexplain = aio.twin(explain)

    def _breaker(self) -> CircuitBreaker:
        """A new door to the breakers that this queue's workers ask."""
        return self.plugins.open_breaker(self.settings.breaker, self.storage_config)

    def _limiter(self) -> RateLimiter:
        """The same for rate limits."""
        return self.plugins.open_limiter(self.settings.limiter, self.storage_config)

    def _limits_of(self, task_name: str) -> Limits:
        # Workers start nothing of a task whose limits cannot be asked, so that is an answer too.
        try:
            breakers = {one.task_name: one for one in self.circuit_breakers()}
            return Limits(breakers.get(task_name), self._token_in(task_name))
        except StorageUnavailable as exc:
            return Limits(unreachable=str(exc))

    def _token_in(self, task_name: str) -> float:
        """Seconds until a job of the task may start, as far as its rate is known here."""
        task = self._tasks.get(task_name)
        if task is None or task.policy.rate_limit is None:
            return 0.0
        with closing(self._limiter()) as limiter:
            return limiter.acquire({task_name: (0, task.policy.rate_limit)})[task_name].retry_after
