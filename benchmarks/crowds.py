"""What a crowd of jobs that cannot run yet costs the others, and what waiting for a crowd costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.app import register
from benchmarks.limited_app import register_throttled
from benchmarks.stores import Backend, Store
from benchmarks.throughput import enqueue_in_bulks, fill, in_turns
from benchmarks.workers import PATIENCE, BenchmarkFailed, until, worker
from taskito import Queue, chord, group

HOUR = 3600.0


def limited(backend: Backend, scale: float) -> dict[str, Any]:
    """Jobs of other tasks beside many of one that is at its rate limit."""
    crowd = int(10_000 * scale)

    def wait(queue: Queue) -> None:
        enqueue_in_bulks(queue, register_throttled(queue), crowd)

    what = f"beside {crowd} jobs of a task that may start 60 a minute"
    return _beside(backend, int(10_000 * scale), wait, what)


def future(backend: Backend, scale: float) -> dict[str, Any]:
    """Due jobs behind very many of a higher priority that are not due."""
    crowd = int(200_000 * scale)

    def wait(queue: Queue) -> None:
        enqueue_in_bulks(queue, register(queue).noop.using(priority=9, delay=HOUR), crowd)

    return _beside(backend, int(10_000 * scale), wait, f"behind {crowd} jobs of a higher priority due later")


def gathered(backend: Backend, scale: float) -> dict[str, Any]:
    """A group with a callback, and the same number of jobs without one."""
    members = int(10_000 * scale)
    return {
        "what": f"chord of {members} no-op jobs with a callback, beside as many without one",
        **in_turns(backend, members, "plain", _drained, _gathered),
    }


def _beside(backend: Backend, jobs: int, crowd: Callable[[Queue], None], what: str) -> dict[str, Any]:
    def behind_them(store: Store, jobs: int) -> float:
        with store.queue() as queue:
            crowd(queue)
        return _drained(store, jobs)

    return {
        "what": f"{jobs} no-op jobs alone, and {what}",
        **in_turns(backend, jobs, "alone", _drained, behind_them),
        "target": {"ratio": 0.9},
    }


def _drained(store: Store, jobs: int) -> float:
    """Seconds from the first start to the last end of the jobs, whatever else is stored."""
    fill(store, jobs)
    due = "task_name = 'noop' AND priority = 0"
    with worker(store, app="benchmarks.limited_app:queue"):
        until(lambda: not _count(store, f"{due} AND completed_at IS NULL"), f"{jobs} jobs", interval=0.25)
    drained = store.drained(due)
    if drained.complete != jobs:
        raise BenchmarkFailed(f"{drained.complete} of {jobs} jobs completed")
    return drained.seconds


def _gathered(store: Store, members: int) -> float:
    """Seconds from the first start of a member to the end of the callback."""
    with store.queue() as queue:
        tasks = register(queue)
        end = chord(group(tasks.noop.s() for _ in range(members)), tasks.count.s()).apply()
        with worker(store):
            found = end.result(timeout=PATIENCE)
        if found != members:
            raise BenchmarkFailed(f"the callback got {found} results of {members}")
    return store.drained().seconds


def _count(store: Store, condition: str) -> int:
    [[count]] = store.query(f"SELECT count(*) FROM {store.jobs} WHERE {condition}")
    return int(count)
