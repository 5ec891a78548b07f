"""How long jobs take, as far as we have seen: what decides how many travel together.

Pure. An exponentially weighted moving average per task, and one over everything.
"""

from __future__ import annotations

#: Seconds a job of a task never seen before is taken to run: long enough to travel alone.
UNKNOWN = 0.1
#: What a job costs in a child even if its task does nothing, in seconds.
FLOOR = 20e-6
#: Weight of the newest run. A fifth: ten runs forget a wrong first guess, one outlier does not rule.
WEIGHT = 0.2


class Pace:
    """The expected seconds per job."""

    def __init__(self) -> None:
        self._by_task: dict[str, float] = {}
        self.mean = UNKNOWN  #: over all tasks, weighted by how often they run

    def expected(self, task_name: str) -> float:
        return self._by_task.get(task_name, UNKNOWN)

    def learn(self, task_name: str, ran: float) -> None:
        """A job of this task took ``ran`` seconds."""
        ran = max(ran, FLOOR)
        before = self._by_task.get(task_name)
        # The first sight replaces the guess: averaging with it would keep fast tasks slow for a while.
        self._by_task[task_name] = ran if before is None else before + WEIGHT * (ran - before)
        self.mean += WEIGHT * (ran - self.mean)
