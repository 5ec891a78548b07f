"""The lanes that a worker serves, besides the one without a name. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from taskito.worker.dispatch.inflight import NEVER
from taskito.worker.ipc.app_manifest import TaskPolicy

#: Seconds for which jobs like one whose arguments could not be read are left to others: at first, and at
#: most, because they double each time that this was in vain.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
#: Seconds for which the lane of a guarded task is left to them too: a job comes back to it from the unread
#: lane, and who sent it there must not be the first to take it.
OWN_PAUSE = 0.5
_UNREAD = " (unread)"


def unread_lane(task_name: str) -> str:
    """The lane of this task's jobs whose arguments a worker could not read, though it knows the task."""
    return task_name + _UNREAD


def is_unread(lane: str) -> bool:
    return lane.endswith(_UNREAD)


class Lanes:
    """Which lanes to claim from: every task's own, and its unread one unless it was in vain just now."""

    def __init__(self, tasks: Mapping[str, TaskPolicy]) -> None:
        self._tasks = tasks
        self._all = (*tasks, *map(unread_lane, tasks))
        self._pauses: dict[str, tuple[float, float]] = {}  #: task -> until when it pauses, and how long
        self._last: dict[str, float] = {}  #: task -> when it was in vain last

    def unreadable(self, task_name: str, now: float) -> None:
        """Arguments of this task could not be read here."""
        self._last[task_name] = now
        until, pause = self._pauses.get(task_name, (now, 0.0))
        if now >= until:
            pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            self._pauses[task_name] = now + pause, pause

    def again_at(self, lane: str, now: float) -> float:
        """When to claim a job that was just released into this lane; infinity: that is for others."""
        task_name = lane.removesuffix(_UNREAD)
        if task_name not in self._tasks:
            return NEVER
        if self._is_guarded(task_name):
            return now + OWN_PAUSE
        until, _ = self._pauses.get(task_name, (now, 0.0))
        return max(until, now)

    def wanted(self, now: float) -> tuple[str, ...]:
        """The lanes to claim from at this moment."""
        if not self._pauses:
            return self._all
        paused = {task for task, (until, _) in self._pauses.items() if now < until}
        if not paused:
            return self._all
        own = (task for task in self._tasks if task not in paused or not self._pauses_itself(task, now))
        return (*own, *(unread_lane(task) for task in self._tasks if task not in paused))

    def _pauses_itself(self, task_name: str, now: float) -> bool:
        return self._is_guarded(task_name) and now < self._last[task_name] + OWN_PAUSE

    def _is_guarded(self, task_name: str) -> bool:
        policy = self._tasks[task_name]
        return policy.rate_limit is not None or policy.breaker is not None
