"""Why a job does not run, in sentences. Pure: it reads the facts that a store gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from taskito.config.text import moment
from taskito.worker.dispatch.lanes import is_unread
from taskito_core.errors import did_you_mean
from taskito_core.job import Job, JobStatus
from taskito_core.limits import BreakerRecord, BreakerState
from taskito_core.storage import Storage
from taskito_core.storage_client import Facts, Gate
from taskito_core.storage_worker import WorkerInfo, WorkerStatus

#: How many ids one sentence names.
MOST_NAMED = 5


class BlockerKind(StrEnum):
    """What can stand in a job's way."""

    FINISHED = "finished"
    RUNNING = "running"
    EXPIRED = "expired"
    NOT_DUE = "not due"
    PARENTS = "parents"
    PAUSED = "queue paused"
    PLACES = "no place"
    QUEUE_FULL = "queue at its limit"
    NO_WORKER = "no worker"
    UNKNOWN_TASK = "unknown task"
    UNREADABLE = "unreadable"
    BREAKER = "breaker open"
    RATE = "rate limit"
    UNREACHABLE = "limits unreachable"
    BUSY = "no free child"


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing that stands in a job's way."""

    kind: BlockerKind
    text: str  #: a sentence, with the ids and moments it is about


class Limits(NamedTuple):
    """How the limits of a job's task stand."""

    breaker: BreakerRecord | None = None
    token_in: float = 0.0  #: seconds until its rate lets a job start; 0.0: now, or the rate is not known
    unreachable: str | None = None  #: why the limits cannot be asked


@dataclass(frozen=True, slots=True)
class JobExplanation:
    """Everything that keeps a job from running, as things are at one moment."""

    job_id: str
    task_name: str
    queue: str
    status: JobStatus
    blockers: tuple[Blocker, ...]  #: empty: it is next as soon as a worker has a child free
    ahead: int  #: jobs that can be claimed now and come first in its queue, counted up to 10,000
    lane: str  #: the task whose rate limit or breaker decides as well; '': none

    def to_dict(self) -> dict[str, Any]:
        """The same in values that JSON can hold."""
        return {
            "job_id": self.job_id,
            "task_name": self.task_name,
            "queue": self.queue,
            "status": str(self.status),
            "blockers": [{"kind": str(one.kind), "text": one.text} for one in self.blockers],
            "ahead": self.ahead,
            "lane": self.lane,
        }

    def __str__(self) -> str:
        lines = [f"job {self.job_id} of task {self.task_name} on queue {self.queue} is {self.status}"]
        lines += [f"- {one.text}" for one in self.blockers]
        if not self.blockers:
            lines.append("- nothing stands in its way: it runs as soon as a worker has a child free for it")
        if all(one.kind is BlockerKind.BUSY for one in self.blockers):
            lines.append(f"- {self.ahead} jobs of its queue come first")
            if self.lane:
                lines.append(f"- it starts when the limits of task {self.lane} let it")
        return "\n".join(lines)


for _class in (BlockerKind, Blocker, JobExplanation):
    _class.__module__ = "taskito"


def explain(
    facts: Facts,
    workers: Sequence[WorkerInfo],
    limits: Limits | None = None,
    unreadable: str | None = None,
    full: int | None = None,
    running: Mapping[str, int] | None = None,
) -> JobExplanation:
    """Read the facts. A job that can be claimed may still lack a worker, or be held back by its limits.

    ``limits``: of the task that the facts' ``lane`` names; None: it has none, or they were not asked.
    ``running``: how many jobs of each queue run; None: not known.
    ``unreadable``: what a worker said last of arguments that it cannot read; None: nothing.
    ``full``: the concurrency of its queue, of which as many jobs run; None: there is room.
    """
    job = facts.job
    blockers = _in_the_store(facts)
    if job.status is JobStatus.PENDING:
        blockers += _among_workers(facts, workers)
        if is_unread(facts.lane):
            said = unreadable or "a worker cannot read its arguments"
            blockers.append(Blocker(BlockerKind.UNREADABLE, f"{said}; it is left to newer workers"))
        blockers += _of_limits(facts, limits) if limits is not None else []
        if full is not None:
            text = f"{full} jobs of queue {job.queue} run, and no more may (a limit of the queue)"
            blockers.append(Blocker(BlockerKind.QUEUE_FULL, text))
        if not blockers and running is not None:
            blockers += _of_children(facts, workers, running)
    lane = "" if is_unread(facts.lane) else facts.lane
    return JobExplanation(job.id, job.task_name, job.queue, job.status, tuple(blockers), facts.ahead, lane)


def _in_the_store(facts: Facts) -> list[Blocker]:
    job = facts.job
    if job.status.finished:
        error = f": {job.error}" if job.error else ""
        return [Blocker(BlockerKind.FINISHED, f"it has ended as {job.status}{error}")]
    if job.status is JobStatus.RUNNING:
        asked = ", and was asked to cancel" if job.cancel_asked else ""
        return [Blocker(BlockerKind.RUNNING, f"it runs on worker {job.worker}{asked}")]
    found: list[Blocker] = []
    if job.expires_at is not None and job.expires_at <= facts.now:
        found.append(Blocker(BlockerKind.EXPIRED, f"it was to begin by {moment(job.expires_at)}"))
    if job.scheduled_at > facts.now:
        retry = " (a retry)" if job.retry_count or job.crashes else ""
        found.append(Blocker(BlockerKind.NOT_DUE, f"it is due at {moment(job.scheduled_at)}{retry}"))
    if job.gate == Gate.PARENTS:
        waits = _named([f"{parent} ({status})" for parent, status in facts.parents])
        found.append(Blocker(BlockerKind.PARENTS, f"it waits for {waits or 'parents that have just ended'}"))
    elif job.gate is not None:
        found.append(Blocker(BlockerKind.PLACES, _no_place(facts)))
    if facts.paused:
        found.append(Blocker(BlockerKind.PAUSED, f"queue {job.queue} is paused"))
    return found


def _no_place(facts: Facts) -> str:
    key, holders = facts.job.concurrency_key, _named(list(facts.holders))
    if len(facts.holders) >= (facts.concurrency or 0):
        return f"all {facts.concurrency} places of {key} are taken, by {holders}"
    return f"it has no place of {key} yet: it gets one when its time comes"


def _among_workers(facts: Facts, workers: Sequence[WorkerInfo]) -> list[Blocker]:
    job = facts.job
    alive = [worker for worker in workers if worker.status is WorkerStatus.ALIVE]
    serving = [worker for worker in alive if job.queue in worker.queues]
    if not serving:
        others = _named([f"{worker.id} ({', '.join(worker.queues)})" for worker in alive])
        seen = f"; alive are {others}" if others else "; no worker is alive"
        hint = did_you_mean(job.queue, {name for worker in alive for name in worker.queues})
        return [Blocker(BlockerKind.NO_WORKER, f"no live worker serves queue {job.queue}{seen}{hint}")]
    if not any(job.task_name in worker.tasks for worker in serving):
        names = _named([worker.id for worker in serving])
        hint = did_you_mean(job.task_name, {name for worker in serving for name in worker.tasks})
        text = f"no live worker of queue {job.queue} knows task {job.task_name}; alive are {names}{hint}"
        return [Blocker(BlockerKind.UNKNOWN_TASK, text)]
    return []


def running_by_queue(storage: Storage) -> dict[str, int]:
    """How many jobs of each queue run."""
    return {queue: counts.running for queue, counts in storage.counts().by_queue.items()}


def _of_children(facts: Facts, workers: Sequence[WorkerInfo], running: Mapping[str, int]) -> list[Blocker]:
    """Do those who could run it have their hands full?"""
    serving = [worker for worker in workers if _serves(worker, facts.job)]
    jobs = sum(running.get(queue, 0) for queue in {queue for worker in serving for queue in worker.queues})
    children = sum(worker.procs for worker in serving)
    if jobs < children:
        return []
    text = f"{jobs} jobs run in the {children} children that could run it: it waits for one with room"
    return [Blocker(BlockerKind.BUSY, text)]


def _serves(worker: WorkerInfo, job: Job) -> bool:
    return (
        worker.status is WorkerStatus.ALIVE and job.queue in worker.queues and job.task_name in worker.tasks
    )


def _of_limits(facts: Facts, limits: Limits) -> list[Blocker]:
    found: list[Blocker] = []
    if limits.unreachable is not None:
        text = f"the limits of task {facts.lane} cannot be asked: {limits.unreachable}"
        found.append(Blocker(BlockerKind.UNREACHABLE, text))
    breaker = limits.breaker
    if breaker is not None and breaker.retry_after > 0:
        until = moment(facts.now + round(breaker.retry_after * 1000))
        text = f"the circuit breaker of task {facts.lane} is open until {until}"
        if breaker.state is BreakerState.HALF_OPEN:
            text = f"the circuit breaker of task {facts.lane} is half open: its probe decides, by {until}"
        found.append(Blocker(BlockerKind.BREAKER, text))
    if limits.token_in > 0:
        text = f"the rate limit of task {facts.lane} lets the next job start in {limits.token_in:.1f} seconds"
        found.append(Blocker(BlockerKind.RATE, text))
    return found


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
