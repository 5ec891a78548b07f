"""Which jobs of the memory store can be claimed, in which order, and what keeps the others waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence

from taskito_core import Bucket, Claim, Facts, Job, JobStatus, QueueLimits, Want
from taskito_kv import gates
from taskito_kv.store import Store, in_order, milliseconds

_AHEAD_CAP = 10_000
#: Milliseconds after which a queue that has as many jobs running as it may is asked for more again.
AGAIN_AFTER = 250


def claim(store: Store, worker_id: str, want: Want, now: int) -> list[Claim]:
    """Claim what is wanted and due, best first, at most ``want.limit`` and of each lane its cap."""
    due = [job for job in _claimable(store, want.queues, _lanes(want), now) if job.scheduled_at <= now]
    due.sort(key=lambda job: (want.queues.index(job.queue), *in_order(job)))
    claims: list[Claim] = []
    taken: Counter[str] = Counter()
    from_queue: Counter[str] = Counter()
    rooms = {queue: room(store, queue, now)[0] for queue in want.queues}
    for job in due:
        lane, left = store.lanes[job.id], rooms[job.queue]
        if left is not None and from_queue[job.queue] >= left:
            continue
        if len(claims) < want.limit and taken[lane] < want.caps.get(lane, want.limit):
            taken[lane] += 1
            from_queue[job.queue] += 1
            claims.append(_claim_one(store, job, worker_id, want.token, now))
    for queue, count in from_queue.items():
        limits = store.limits.get(queue, QueueLimits())
        if limits.rate is not None:
            bucket = store.queue_buckets.get(queue) or Bucket.full(limits.rate, now)
            store.queue_buckets[queue], _ = bucket.take(count, limits.rate, now)
    return claims


def room(store: Store, queue: str, now: int) -> tuple[int | None, int]:
    """How many jobs of the queue may be claimed now; and when to ask again if there are more."""
    limits = store.limits.get(queue, QueueLimits())
    rooms, again_at = [], now + AGAIN_AFTER
    if limits.concurrency is not None:
        running = sum(job.queue == queue for job in store.running())
        rooms.append(max(limits.concurrency - running, 0))
    if limits.rate is not None:
        bucket = store.queue_buckets.get(queue) or Bucket.full(limits.rate, now)
        filled, grant = bucket.take(0, limits.rate, now)
        rooms.append(int(filled.tokens))
        if filled.tokens < 1:
            again_at = now + max(1, milliseconds(grant.retry_after))
    return min(rooms, default=None), again_at


def next_due(store: Store, want: Want, now: int) -> int | None:
    """When the earliest wanted job falls due; None if there is none, or one is due now."""
    moments = []
    for job in _claimable(store, want.queues, _lanes(want), now):
        left, again_at = room(store, job.queue, now)
        moments.append(max(job.scheduled_at, again_at) if left == 0 else job.scheduled_at)
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
