"""Metrics: how attempts are added up, and the sink that keeps the sums. Never a row per job.

Everything here can be merged in any order and grouping, because it was added up in different
children, workers and minutes before they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, log
from typing import Protocol

#: Each bucket of a sketch ends this much higher than it begins: its middle is within 1 % of all in it.
_GAMMA = 1.02
_LOG_GAMMA = log(_GAMMA)
#: Seconds; up to here durations are not told apart.
_FINEST = 1e-6
#: Seconds; anything longer is a clock that jumped, and goes into the last bucket.
_LONGEST = 1e9
_LAST = ceil(log(_LONGEST / _FINEST) / _LOG_GAMMA)


class Sketch:
    """How many durations were about how long.

    A DDSketch (Masson, Rim and Lee, VLDB 2019): bucket ``i`` counts durations of more than
    ``1.02 ** (i - 1)`` and up to ``1.02 ** i`` microseconds, bucket 0 those of up to one. A quantile is
    within 1 % of the exact one, of however many durations. Adding two sketches loses nothing.
    """

    __slots__ = ("buckets",)

    def __init__(self, buckets: dict[int, int] | None = None) -> None:
        self.buckets: dict[int, int] = {} if buckets is None else buckets  #: number of the bucket -> count

    def add(self, seconds: float, count: int = 1) -> None:
        """Count ``count`` durations of ``seconds``."""
        if seconds <= _FINEST:
            bucket = 0
        elif seconds < _LONGEST:
            bucket = ceil(log(seconds / _FINEST) / _LOG_GAMMA)
        else:
            bucket = _LAST
        self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def merge(self, other: Sketch) -> None:
        """Add everything that ``other`` has counted."""
        mine = self.buckets
        for bucket, count in other.buckets.items():
            mine[bucket] = mine.get(bucket, 0) + count

    @property
    def count(self) -> int:
        return sum(self.buckets.values())

    def quantile(self, q: float) -> float:
        """Seconds that a share ``q`` of the durations does not exceed, 0 < q <= 1; 0.0 if there are none.

        The one of rank ``ceil(q * count)`` in ascending order, within 1 %; bucket 0 counts as zero.
        """
        rank = max(1, ceil(q * self.count))
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                # The middle in the sense that both ends are equally far away, relatively.
                return 2 * _GAMMA**bucket / (_GAMMA + 1) * _FINEST if bucket else 0.0
        return 0.0

    def to_text(self) -> str:
        """A JSON object for a column of text: buckets as keys, ascending, counts as values."""
        return json.dumps({str(bucket): self.buckets[bucket] for bucket in sorted(self.buckets)})

    @classmethod
    def from_text(cls, text: str) -> Sketch:
        """What ``to_text`` wrote; the order of the keys does not matter."""
        return cls({int(bucket): count for bucket, count in json.loads(text).items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self.buckets == other.buckets

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<Sketch of {self.count} durations>"


@dataclass(slots=True)
class Tally:
    """The finished attempts of one task from one queue, added up. Durations are seconds.

    Attempts count that returned or failed; those that were handed back do not.
    """

    task_name: str
    queue: str
    succeeded: int = 0
    failed: int = 0  #: raised, timed out, or died with their process
    total_run: float = 0.0  #: wall time inside the task
    shortest_run: float = inf  #: infinity: none yet
    longest_run: float = 0.0
    total_wait: float = 0.0  #: from due to start
    peak_memory: int = 0  #: most bytes resident in a process during one of the runs; 0: unknown
    runs: Sketch = field(default_factory=Sketch)  #: of the wall times

    @property
    def count(self) -> int:
        return self.succeeded + self.failed

    def add(self, succeeded: bool, ran: float, waited: float, peak_memory: int) -> None:
        """Count one attempt: seconds of wall time, seconds from due to start, bytes (0: not measured)."""
        if succeeded:
            self.succeeded += 1
        else:
            self.failed += 1
        self.total_run += ran
        # Written out: the supervisor does this for every job, and calls cost more than the rest of it.
        if ran < self.shortest_run:
            self.shortest_run = ran
        if ran > self.longest_run:
            self.longest_run = ran
        self.total_wait += waited
        if peak_memory > self.peak_memory:
            self.peak_memory = peak_memory
        self.runs.add(ran)

    def merge(self, other: Tally) -> None:
        """Add everything that ``other`` has counted, whatever its task and queue."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.total_run += other.total_run
        self.shortest_run = min(self.shortest_run, other.shortest_run)
        self.longest_run = max(self.longest_run, other.longest_run)
        self.total_wait += other.total_wait
        self.peak_memory = max(self.peak_memory, other.peak_memory)
        self.runs.merge(other.runs)


class Tallies:
    """One Tally per task and queue. What it holds is bounded by these, not by the number of attempts."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str], Tally] = {}

    def of(self, task_name: str, queue: str) -> Tally:
        """The tally of this task and queue, to add to."""
        key = task_name, queue
        tally = self._by_key.get(key)
        if tally is None:
            tally = self._by_key[key] = Tally(task_name, queue)
        return tally

    def merge(self, batch: Iterable[Tally]) -> None:
        for tally in batch:
            self.of(tally.task_name, tally.queue).merge(tally)

    def take(self) -> list[Tally]:
        """Everything so far, by task and queue; what is added from now on is apart from it."""
        taken, self._by_key = self._by_key, {}
        return [taken[key] for key in sorted(taken)]

    def __iter__(self) -> Iterator[Tally]:
        return iter(self._by_key.values())

    def __bool__(self) -> bool:
        return bool(self._by_key)


class Metrics(Protocol):
    """A sink for what attempts took. Constructing one does no I/O; the first call opens it.

    Safe to call from any thread; an object carried across a fork raises StorageError in the child.
    Raises StorageUnavailable if it cannot be reached, StorageError for anything else it refuses; no driver
    exception class ever escapes. The sink's clock decides what is when.
    """

    #: For tests only: milliseconds added to the sink's clock in everything this object does.
    clock_shift: int

    def record(self, batch: Sequence[Tally]) -> None:
        """Add tallies, each with at least one attempt, to the current minute of their task and queue.

        All or none. Writers of the same minute, in any process, add up: nothing is lost. No task and
        queue is named twice in a batch. The first call of an object, and one an hour after it, also
        forgets minutes that began longer ago than they are to be kept.

        Called by a worker at most once a second, on a thread that nothing else waits for. If it raises,
        the same tallies are sent again, merged with newer ones: after an ambiguous commit they count twice.
        """
        ...

    def read(self, task_name: str | None, since: float) -> list[Tally]:
        """Per task and queue, in that order, what was recorded in the last ``since`` seconds.

        ``task_name`` None: of all tasks. Minutes count whole: the oldest is the one ``since`` reaches into.
        """
        ...

    def close(self) -> None:
        """Give back every connection, thread and file. Idempotent; later calls reopen."""
        ...
