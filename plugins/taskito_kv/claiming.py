"""Which jobs of the memory store can be claimed, in which order, and what keeps the others waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence

from taskito_core import Claim, Facts, Job, JobStatus, Want
from taskito_kv import gates
from taskito_kv.store import Store, in_order

_AHEAD_CAP = 10_000


def claim(store: Store, worker_id: str, want: Want, now: int) -> list[Claim]:
    """Claim what is wanted and due, best first, at most ``want.limit`` and of each lane its cap."""
    due = [job for job in _claimable(store, want.queues, _lanes(want), now) if job.scheduled_at <= now]
    due.sort(key=lambda job: (want.queues.index(job.queue), *in_order(job)))
    claims: list[Claim] = []
    taken: Counter[str] = Counter()
    for job in due:
        lane = store.lanes[job.id]
        if len(claims) < want.limit and taken[lane] < want.caps.get(lane, want.limit):
            taken[lane] += 1
            claims.append(_claim_one(store, job, worker_id, want.token, now))
    return claims


def next_due(store: Store, want: Want, now: int) -> int | None:
    """When the earliest wanted job falls due; None if there is none, or one is due now."""
    moments = [job.scheduled_at for job in _claimable(store, want.queues, _lanes(want), now)]
    earliest = min(moments, default=None)
    return None if earliest is None or earliest <= now else earliest


def peek(store: Store, queues: Sequence[str], lanes: Sequence[str], now: int) -> Mapping[str, int]:
    """The earliest due time of each of these lanes that has a job to claim, now or later."""
    earliest: dict[str, int] = {}
    for job in _claimable(store, queues, lanes, now):
        lane = store.lanes[job.id]
        earliest[lane] = min(job.scheduled_at, earliest.get(lane, job.scheduled_at))
    return earliest


def facts(store: Store, job: Job, now: int) -> Facts:
    """Everything that may keep this job from running."""
    key = job.concurrency_key
    held_by = [] if key is None else gates.holders(store, key)
    ahead = [
        other
        for other in _claimable(store, [job.queue], store.lanes.values(), now)
        if other.scheduled_at <= now and in_order(other) < in_order(job)
    ]
    unfinished = [parent for parent in store.parents_of(job.id) if not parent.status.finished]
    return Facts(
        job=job,
        now=now,
        lane=store.lanes[job.id],
        parents=tuple((parent.id, parent.status) for parent in unfinished),
        paused=job.queue in store.paused,
        concurrency=None if key is None else gates.concurrency(store, job),
        holders=tuple(holder.id for holder in held_by if holder.id != job.id),
        ahead=min(len(ahead), _AHEAD_CAP),
    )


def _lanes(want: Want) -> set[str]:
    return {"", *want.tasks}


def _claimable(store: Store, queues: Sequence[str], lanes: Container[str], now: int) -> list[Job]:
    """Pending jobs of these queues and lanes that wait for nothing but their time, in no order."""
    return [
        job
        for job in store.pending()
        if job.gate is None
        and job.queue in queues
        and job.queue not in store.paused
        and store.lanes[job.id] in lanes
        and not gates.has_expired(job, now)
    ]


def _claim_one(store: Store, job: Job, worker_id: str, token: int, now: int) -> Claim:
    store.put(job, status=JobStatus.RUNNING, worker=worker_id, token=token, claimed_at=now)
    return Claim(
        id=job.id,
        token=token,
        task_name=job.task_name,
        queue=job.queue,
        payload=job.payload,
        retry_count=job.retry_count,
        crashes=job.crashes,
        interruptions=job.interruptions,
        max_retries=job.max_retries,
        timeout=job.timeout,
        metadata=job.metadata,
        claimed_at=now,
        due_at=max(job.scheduled_at, job.created_at),
    )
