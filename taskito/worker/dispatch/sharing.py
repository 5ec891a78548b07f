"""Which jobs may run beside others in one child, and which child each is given to if some may. Pure.

A job runs beside others if its task allows it: ``async def`` tasks in the child's event loop, others in
threads, each up to the worker's option. It runs alone if a crash must be charged to it exactly: because none
is allowed, or because a process died under it before. So what a crash of several jobs leaves open is known at
their next run, and no job is charged for another's crash more than once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from taskito.worker.dispatch.executors import RECALL_AFTER, Executors
from taskito.worker.dispatch.inflight import Executor, InFlight
from taskito.worker.dispatch.prefetch import PrefetchBuffer
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.ipc.wire import Company
from taskito_core.job import Claim

#: Expected seconds of work a child may hold at once: short jobs travel in batches, long ones alone.
BUDGET = 0.005
#: Jobs in one frame, however short they are.
MAX_FRAME = 64
#: Bytes of payloads and metadata in one frame, at most (or one job): far below what a message may hold.
MAX_FRAME_SIZE = 1024 * 1024
#: Weight of the newest claim in what is known of the mixture of jobs.
_WEIGHT = 0.1

Frame = tuple[Executor, list[InFlight]]


class Sharing:
    """The rules, and what is known of the mixture of the jobs that are claimed."""

    def __init__(self, tasks: Mapping[str, TaskPolicy], options: ChildOptions) -> None:
        self._most = (0, options.async_concurrency, options.threads)
        self._company = {name: _company_of(policy, options) for name, policy in tasks.items()}
        companies = list(self._company.values())
        #: The part of the jobs that are of each kind: at first, that of the tasks.
        self._parts = [companies.count(company) / max(1, len(companies)) for company in Company]
        self.enabled = any(companies)
        #: The executor that is given nothing more until it is empty: a job waits that fits to no other.
        self._emptying: Executor | None = None

    def company(self, claim: Claim) -> Company:
        """Beside what this job may run; noted, too."""
        company = Company.ALONE if claim.crashes else self._company.get(claim.task_name, Company.ALONE)
        if self.enabled:
            for each in Company:
                self._parts[each] += _WEIGHT * ((each is company) - self._parts[each])
        return company

    def free(self, executors: Iterable[Executor]) -> int:
        """How many jobs executors are expected to begin at once, beside one in each that is empty."""
        if not self.enabled:
            return 0
        free = 0
        for executor in executors:
            if executor.room() <= 0 or executor.counts[Company.ALONE] or executor is self._emptying:
                continue
            room = sum(
                self._parts[company] * max(0, self._most[company] - executor.counts[company])
                for company in (Company.COROUTINES, Company.THREADS)
            )
            free += max(0, int(room + 0.5) - (not executor.outstanding))
        return free

    def assign(
        self, executors: Executors, buffer: PrefetchBuffer, now: float
    ) -> tuple[list[Frame], list[InFlight]]:
        """Take out of the buffer what executors have room for, and what is too old.

        In order; but one that has to wait does not hold up those of other kinds behind it. It gets the
        executor that is nearest to being empty, which is given nothing more until it is.
        """
        frames: dict[int, Frame] = {}
        sizes: dict[int, int] = {}
        stale: list[InFlight] = []
        skipped: deque[InFlight] = deque()
        blocked: set[Company] = set()
        emptying = self._emptying
        if emptying is not None and (not emptying.outstanding or executors.get(emptying.id) is not emptying):
            self._emptying = None
        waiting, taken = buffer.entries, 0.0
        while waiting and len(blocked) < len(Company):
            entry = waiting.popleft()
            if entry.fresh_until < now:
                stale.append(entry)
                taken += entry.work
                continue
            executor = None if entry.company in blocked else self._best(executors, frames, sizes, entry, now)
            if executor is None:
                skipped.append(entry)
                if entry.company not in blocked:
                    blocked.add(entry.company)
                    self._empty_one(executors, entry.company)
                continue
            frames.setdefault(executor.id, (executor, []))[1].append(entry)
            sizes[executor.id] = sizes.get(executor.id, 0) + _size(entry)
            taken += entry.work
            executor.give(entry, now)
        waiting.extendleft(reversed(skipped))
        buffer.took(taken)
        return list(frames.values()), stale

    def _best(
        self,
        executors: Executors,
        frames: Mapping[int, Frame],
        sizes: Mapping[int, int],
        entry: InFlight,
        now: float,
    ) -> Executor | None:
        """The least busy executor that takes this job now."""
        best: Executor | None = None
        for executor in executors:
            if best is not None and _load(executor) >= _load(best):
                continue
            if not self._accepts(executor, entry, now) or executor is self._emptying:
                continue
            in_frame = len(frames[executor.id][1]) if executor.id in frames else 0
            if in_frame >= MAX_FRAME or (in_frame and sizes[executor.id] + _size(entry) > MAX_FRAME_SIZE):
                continue
            best = executor
        return best

    def _accepts(self, executor: Executor, entry: InFlight, now: float) -> bool:
        if executor.room() <= 0:
            return False
        if not executor.outstanding:
            return True
        if executor.shares is (entry.company is Company.ALONE):
            return False
        if executor.counts[entry.company] < self._most[entry.company]:
            return True
        if executor.counts[entry.company] != len(executor.outstanding):
            return False
        # Short jobs of one kind travel in batches.
        return executor.work + entry.work <= BUDGET and now - executor.progress < RECALL_AFTER

    def _empty_one(self, executors: Executors, company: Company) -> None:
        """No executor takes jobs of this kind: have one of the other kind become empty."""
        others = [
            executor
            for executor in executors
            if not executor.closing and executor.shares is (company is Company.ALONE)
        ]
        if self._emptying is None and others:
            self._emptying = min(others, key=_load)


def _company_of(policy: TaskPolicy, options: ChildOptions) -> Company:
    if options.jobs_at_once == 1 or not policy.retry.max_crashes:
        return Company.ALONE
    if policy.is_async:
        return Company.COROUTINES
    return Company.THREADS if options.threads > 1 else Company.ALONE


def _load(executor: Executor) -> tuple[int, float]:
    return len(executor.outstanding), executor.work


def _size(entry: InFlight) -> int:
    return len(entry.claim.payload) + len(entry.claim.metadata or "")
