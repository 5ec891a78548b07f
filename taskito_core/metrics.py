"""The metrics contract: a sink for finished attempts, and what can be read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Measurement(NamedTuple):
    """One finished attempt, measured in the child that ran it."""

    task_name: str
    queue: str
    succeeded: bool
    waited: float  #: seconds from due to start
    ran: float  #: seconds of wall time inside the task
    peak_memory: int  #: bytes resident at the highest point of the run; 0 if it cannot be known
    finished_at: int  #: milliseconds since the epoch, the store's clock


class Summary(NamedTuple):
    """One task over a period. Durations are seconds; percentiles are within 2 % of exact."""

    task_name: str
    total: int
    succeeded: int
    failed: int
    average: float
    minimum: float
    maximum: float
    p50: float
    p95: float
    p99: float
    average_wait: float
    peak_memory: int


class Metrics(Protocol):
    """Where measurements go. Losing some in a crash is allowed; slowing a worker down is not."""

    def record(self, batch: Sequence[Measurement]) -> None:
        """Add measurements, in any order. Called by the supervisor's store thread, once per batch."""
        ...

    def read(self, task_name: str | None, since: float) -> list[Summary]:
        """Summaries of the last ``since`` seconds, per task and by name; all tasks if None."""
        ...

    def close(self) -> None:
        """Write what is held back, then give back every connection. Idempotent."""
        ...
