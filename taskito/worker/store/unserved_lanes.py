"""Jobs that wait for what no live worker serves: a task that none of them knows, or a queue of none."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from taskito.worker.dispatch.lanes import is_unread
from taskito_core.errors import did_you_mean
from taskito_core.storage_worker import WorkerInfo, WorkerStatus

log = logging.getLogger("taskito.worker")

#: Seconds after which such jobs are checked for again before a word is said: a worker may just be starting.
SECOND_CHECK = 5.0
#: Names of which one worker speaks, so that what it remembers stays small.
MOST_TOLD = 1000


class UnservedLane(NamedTuple):
    """Jobs that no live worker would take, though some worker is alive."""

    queue: str
    task_name: str  #: '': of any task, because no live worker serves the queue
    known: tuple[str, ...]  #: the tasks, or the queues, that live workers serve instead

    @property
    def name(self) -> str:
        """What nobody knows: the task, or else the queue."""
        return self.task_name or self.queue

    def __str__(self) -> str:
        hint = did_you_mean(self.name, self.known)
        if self.task_name:
            return f"no live worker of queue {self.queue!r} knows task {self.task_name!r}{hint}"
        return f"no live worker serves queue {self.queue!r}{hint}"


def unserved_lanes(lanes: Iterable[tuple[str, str]], workers: Iterable[WorkerInfo]) -> list[UnservedLane]:
    """Of these lanes, as ``Storage.lanes`` gives them, those that no live worker serves, by queue and task.

    Nothing if no worker is alive at all: then all jobs wait, and nobody knows what names are right.
    """
    alive = [worker for worker in workers if worker.status is WorkerStatus.ALIVE]
    if not alive:
        return []
    found = set[UnservedLane]()
    for queue, lane in lanes:
        serving = [worker for worker in alive if queue in worker.queues]
        if not serving:
            found.add(UnservedLane(queue, "", _named(worker.queues for worker in alive)))
        elif lane and not is_unread(lane) and not any(lane in worker.tasks for worker in serving):
            found.add(UnservedLane(queue, lane, _named(worker.tasks for worker in serving)))
    return sorted(found)


def _named(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for names in lists for name in names}))


class UnservedLanesWatch:
    """Says in the worker's log, once per name, what is found twice in a row."""

    def __init__(self) -> None:
        self._seen = frozenset[str]()
        self._told = set[str]()

    def tell(self, found: Iterable[UnservedLane]) -> float | None:
        """Seconds after which to check again; None: that can wait."""
        fresh = [lane for lane in found if lane.name not in self._told]
        seen, self._seen = self._seen, frozenset(lane.name for lane in fresh)
        for lane in fresh:
            if lane.name in seen and len(self._told) < MOST_TOLD:
                self._told.add(lane.name)
                log.warning("jobs wait in vain: %s", lane)
        return SECOND_CHECK if self._seen - seen else None
