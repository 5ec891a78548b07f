"""Thousands of jobs of a known outcome, and the questions asked about them afterwards."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

from taskito_core.job import Job, JobStatus
from taskito_core.retry import RetryPolicy
from tests.faults.harness import Worker, wait_until

CHUNK = 500
_FENCED = re.compile(r"job (\S+) was given to another worker meanwhile")
#: Of a hundred jobs so many take 2 to 30 milliseconds; the others take none.
SLOW_PERCENT = 3


class Load:
    """A mix of quick and slower jobs, each with the square of its number as result."""

    def __init__(
        self,
        app: ModuleType,
        count: int,
        *,
        failures: int = 0,
        slow_percent: int = SLOW_PERCENT,
        seed: int = 1,
    ) -> None:
        self._app = app
        self._slow_percent = slow_percent
        dice = random.Random(seed)
        failing = set(dice.sample(range(count), failures))
        specs = [self._spec(dice, number, number in failing) for number in range(count)]
        self.ids: list[str] = []
        for start in range(0, count, CHUNK * 4):
            self.ids += [job.id for job in app.queue.enqueue_many(specs[start : start + CHUNK * 4])]
        self.number = {job_id: number for number, job_id in enumerate(self.ids)}
        self.failing = {self.ids[number] for number in failing}

    def _spec(self, dice: random.Random, number: int, fails: bool) -> dict[str, object]:
        if dice.randrange(100) < self._slow_percent:
            return self._app.slow_square.spec(number, dice.uniform(0.002, 0.03), int(fails))  # type: ignore[no-any-return]
        if fails:
            return self._app.flaky.spec(number, 1)  # type: ignore[no-any-return]
        return self._app.square.spec(number)  # type: ignore[no-any-return]

    def finish(self, timeout: float, look: Callable[[], str] = lambda: "") -> None:
        """Wait until every job has ended; ``look`` says what to show if they do not."""
        left = list(self.ids)

        def ended() -> bool:
            head = left[:CHUNK]
            done = {job.id for job in self._app.queue.storage.get(head) if job.status.finished}
            left[:CHUNK] = [job_id for job_id in head if job_id not in done]
            return not left

        try:
            wait_until(ended, timeout, "every job has ended")
        except AssertionError as exc:
            rows = self._app.queue.storage.get(left[:5])
            raise AssertionError(f"{exc}; {len(left)} have not, such as {rows}\n{look()}") from None

    def rows(self) -> Iterator[Job]:
        for start in range(0, len(self.ids), CHUNK):
            yield from self._app.queue.storage.get(self.ids[start : start + CHUNK])

    def check(self, starts: Counter[str], excused: Callable[[Job], int]) -> list[Job]:
        """Every result is right, and no job ran more often than 1 + its failures + what excuses it.

        Only a job whose process died under it three times may have gone to the dead letter.
        """
        rows = list(self.rows())
        assert len(rows) == len(self.ids)
        most = RetryPolicy().max_crashes
        wrong = [row for row in rows if row.status is not JobStatus.COMPLETE and row.crashes <= most]
        assert not wrong, wrong[:5]
        loads = self._app.queue.serializer.loads
        complete = (row for row in rows if row.status is JobStatus.COMPLETE)
        assert all(loads(row.result) == self.number[row.id] ** 2 for row in complete)
        assert all(starts[job_id] >= 1 for job_id in self.ids)
        assert starts.keys() == set(self.ids)
        often = [(starts[row.id], row) for row in rows if starts[row.id] > 1 + row.retry_count + excused(row)]
        assert not often, (len(often), often[:5])
        return rows


def nothing(row: Job) -> int:
    """No excuse for a second run."""
    return 0


def fenced(workers: Sequence[Worker]) -> Counter[str]:
    """How often the result of each job was dropped because the store had given the job away."""
    return Counter(job_id for worker in workers for job_id in _FENCED.findall(worker.output()))
