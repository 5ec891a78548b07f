"""Which jobs of the memory store can be claimed, in which order, and what keeps the others waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence

from taskito_core import Claim, Facts, Job, JobStatus, QueueLimits, QueueRoom, Want
from taskito_kv import gates
from taskito_kv.store import Store, in_order

_AHEAD_CAP = 10_000


def claim(store: Store, worker_id: str, want: Want, now: int) -> list[Claim]:
    """Claim what is wanted and due, best first, at most ``want.limit`` and of each lane its cap."""
    due = [job for job in _claimable(store, want.queues, _lanes(want), now) if job.scheduled_at <= now]
    due.sort(key=lambda job: (want.queues.index(job.queue), *in_order(job)))
    claims: list[Claim] = []
    taken: Counter[str] = Counter()
    from_queue: Counter[str] = Counter()
    rooms = _rooms(store, want.queues, now)
    for job in due:
        lane = store.lanes[job.id]
        if job.queue in rooms and from_queue[job.queue] >= rooms[job.queue].count:
            continue
        if len(claims) < want.limit and taken[lane] < want.caps.get(lane, want.limit):
            taken[lane] += 1
            from_queue[job.queue] += 1
            claims.append(_claim_one(store, job, worker_id, want.token, now))
    for queue, room in rooms.items():
        if (bucket := room.take(from_queue[queue])) is not None:
            store.queue_buckets[queue] = bucket
    return claims


def _rooms(store: Store, queues: Sequence[str], now: int) -> dict[str, QueueRoom]:
    """The room in those of these queues that have limits."""
    rooms = {}
    for queue in queues:
        limits = store.limits.get(queue, QueueLimits())
        if limits.concurrency is not None or limits.rate is not None:
            running = sum(job.queue == queue for job in store.running())
            rooms[queue] = QueueRoom(limits, running, store.queue_buckets.get(queue), now)
    return rooms


def next_due(store: Store, want: Want, now: int) -> int | None:
    """When the earliest wanted job falls due; None if there is none, or one is due now."""
    rooms = _rooms(store, want.queues, now)
    moments = []
    for job in _claimable(store, want.queues, _lanes(want), now):
        room = rooms.get(job.queue)
        is_full = room is not None and room.count < 1
        moments.append(max(job.scheduled_at, room.again_at) if room and is_full else job.scheduled_at)
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
