"""The executors of a worker, and when each of them has to be checked or relieved. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from taskito.worker.dispatch.inflight import NEVER, SILENT_AFTER, Executor

#: An executor that holds several jobs and ended none for so many seconds is asked for the unbegun ones.
RECALL_AFTER = 0.02


class Executors:
    """All open executors, by their ids."""

    def __init__(self) -> None:
        self._by_id: dict[int, Executor] = {}

    def __iter__(self) -> Iterator[Executor]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __getitem__(self, executor_id: int) -> Executor:
        return self._by_id[executor_id]

    def get(self, executor_id: int) -> Executor | None:
        return self._by_id.get(executor_id)

    def open(self, executor_id: int, now: float) -> None:
        """A new one takes jobs."""
        self._by_id[executor_id] = Executor(executor_id, now)

    def close(self, executor_id: int) -> None:
        """Give this one nothing more; what it holds it may end or hand back."""
        self._by_id[executor_id].closing = True

    def remove(self, executor_id: int) -> Executor | None:
        return self._by_id.pop(executor_id, None)

    def free(self) -> int:
        """How many could begin a job at once."""
        return sum(1 for executor in self if not executor.outstanding and executor.room() > 0)

    def soon(self, patience: float, now: float) -> tuple[int, float, float]:
        """How many more jobs they are expected to begin within ``patience`` seconds.

        Also how many seconds of that time they have for it, over all of them, and until when that is expected
        of one of them at least, should no job end.
        """
        count, spare, until = 0, 0.0, now
        for executor in self:
            if executor.closing:
                continue
            starts, seconds = executor.soon(patience, now)
            if starts:
                count += starts
                spare += seconds
                until = max(until, now + executor.left(now) + patience / 2)
        return count, spare, until

    # ---- recalls: jobs that wait behind a slow one ----

    def recalls(self, now: float, running: Callable[[int], Mapping[int, float]]) -> list[Executor]:
        """Those whose unbegun jobs should be asked back now; each is named once.

        ``running`` tells which jobs the executor of this id is inside of.
        """
        stuck = []
        for executor in self:
            if _recall_at(executor) > now:
                continue
            executor.recall_now = False
            if executor.shares and executor.outstanding.keys() <= running(executor.id).keys():
                executor.all_begun = True
                executor.responds()
            else:
                executor.recalled = True
                stuck.append(executor)
        return stuck

    def next_recall(self) -> float:
        """When ``recalls`` may name one next; infinity: never as things stand."""
        return min((min(_recall_at(executor), executor.reopen_at) for executor in self), default=NEVER)

    def reopen(self, now: float) -> bool:
        """Give those that were left alone for long enough jobs again; True if there is one."""
        due = [executor for executor in self if executor.reopen_at <= now]
        for executor in due:
            executor.recalled, executor.reopen_at = False, NEVER
        return bool(due)

    # ---- hard limits ----

    def to_check(self, now: float) -> list[Executor]:
        """Those that have to be checked with ``overdue`` now."""
        return [executor for executor in self if executor.check_at <= now]

    def next_check(self) -> float:
        """When ``to_check`` may name one next; infinity: never as things stand."""
        return min((executor.check_at for executor in self), default=NEVER)

    def overdue(self, executor_id: int, running: Mapping[int, float], now: float) -> int | None:
        """The seq of a job this child is inside of (``running``, each since when) that passed its hard limit.

        0: it holds jobs and begins none, so it is stopped, or stuck between them. If it is neither, None, and
        its next check is set to the earliest moment at which that may change.
        """
        executor = self._by_id[executor_id]
        executor.check_at = NEVER
        if executor.outstanding:
            if running or executor.quiet <= executor.progress:
                executor.quiet = now
            elif now - executor.quiet >= SILENT_AFTER:
                return 0
            executor.check_at = executor.quiet + SILENT_AFTER
        for entry in executor.outstanding.values():
            if not entry.timeout:
                continue
            deadline = running.get(entry.seq, now) + entry.timeout
            if deadline <= now:
                return entry.seq
            executor.check_at = min(executor.check_at, deadline)
        return None


def _recall_at(executor: Executor) -> float:
    if executor.recalled:
        return NEVER
    if executor.recall_now:
        return 0.0
    if len(executor.outstanding) < 2 or executor.all_begun:
        return NEVER
    if executor.shares:
        return max(executor.progress, executor.given) + RECALL_AFTER
    return executor.progress + RECALL_AFTER
