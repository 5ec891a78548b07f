"""What people read of the metrics: one record per task, made of the tallies that a sink kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from taskito_core.metrics import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMetrics:
    """One task over a period: its attempts that returned or failed. Durations are seconds."""

    task_name: str
    count: int  #: succeeded + failed
    succeeded: int
    failed: int  #: raised, timed out, or died with their process; each retry counts anew
    average: float  #: wall time of a run
    minimum: float
    maximum: float
    p50: float  #: half of the runs took no longer; as p95 and p99 within 1 % of exact
    p95: float
    p99: float
    average_wait: float  #: from the moment a job was due until it started
    peak_memory: int  #: most bytes resident in a process during one of the runs; 0: unknown


TaskMetrics.__module__ = "taskito"


def summarise(tallies: Iterable[Tally]) -> list[TaskMetrics]:
    """One record per task, by name, over all of its queues."""
    by_task: dict[str, Tally] = {}
    for tally in tallies:
        by_task.setdefault(tally.task_name, Tally(tally.task_name, "")).merge(tally)
    return [_metrics(by_task[name]) for name in sorted(by_task)]


def _metrics(tally: Tally) -> TaskMetrics:
    def quantile(q: float) -> float:
        # Both ends are known exactly, and no run was outside of them.
        return min(max(tally.runs.quantile(q), tally.shortest_run), tally.longest_run)

    return TaskMetrics(
        task_name=tally.task_name,
        count=tally.count,
        succeeded=tally.succeeded,
        failed=tally.failed,
        average=tally.total_run / tally.count,
        minimum=tally.shortest_run,
        maximum=tally.longest_run,
        p50=quantile(0.50),
        p95=quantile(0.95),
        p99=quantile(0.99),
        average_wait=tally.total_wait / tally.count,
        peak_memory=tally.peak_memory,
    )
