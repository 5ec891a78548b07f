"""The producer's side: storing jobs, and ringing whoever waits for them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors

from taskito_core import NewJob, Receipt, StorageError, StorageUnavailable
from taskito_postgres import sql
from taskito_postgres.arrays import Bigints, Blobs, Doubles, Texts
from taskito_postgres.base import Base
from taskito_postgres.session import Session

#: From here on COPY is faster than arrays.
COPY_FROM = 2000
#: Bytes of payload in one INSERT; an array of PostgreSQL ends at 1 GB.
MAX_BYTES = 256 * 1024 * 1024
#: Times a batch is sent over a lost connection before the caller hears of it.
SENDINGS = 3


class Produce(Base):
    """``enqueue`` of the contract."""

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        if not jobs:
            return []
        for job in jobs:
            _check(job)
        ordered = sorted(jobs, key=_id)
        queues = {job.queue for job in jobs}
        doing = f"enqueue {len(jobs)} job(s)"
        connected = False

        def store(session: Session) -> set[str]:
            nonlocal connected
            connected = True
            return self._store(session, ordered, queues)

        for sending in range(1, SENDINGS + 1):
            connected = False
            try:
                inserted = self._connections.on_pool(doing, store)
                break
            except StorageUnavailable as error:
                # Whether the lost commit happened does not matter: the same ids store nothing twice. A server
                # that cannot be reached is not tried again here: each try may last as long as its timeout.
                if sending == SENDINGS or not (connected and _lost(error.__cause__)):
                    raise
        return _receipts(jobs, inserted)

    def _store(self, session: Session, ordered: list[NewJob], queues: set[str]) -> set[str]:
        if len(ordered) >= COPY_FROM or sum(len(job.payload) for job in ordered) > MAX_BYTES:
            try:
                inserted = self._copy(session, ordered)
            except errors.UniqueViolation:
                # Sent before, at least in part. COPY cannot skip what is there.
                inserted = self._insert_in_parts(session, ordered)
            self._ringer.later(queues)
            return inserted
        return self._insert(session, ordered, queues)

    def _insert(self, session: Session, ordered: list[NewJob], queues: set[str]) -> set[str]:
        """One round trip: the rows, and in a second transaction the bell."""
        if len(ordered) == 1:
            enqueue, forget = sql.ENQUEUE_ONE, sql.FORGET_FINISHED_ONE
            parameters = _fields(ordered[0], self.clock_shift)
        else:
            enqueue, forget = sql.ENQUEUE, sql.FORGET_FINISHED
            parameters = _columns(ordered, self.clock_shift)
        bell = None
        with session.turn() as turn:
            stored = turn.run(self._statements[enqueue], parameters)
            forgotten = turn.run(self._statements[forget], parameters)
            if self._ringer.may_ring():
                turn.cut()
                bell = turn.run(self._statements[sql.RING], self._bell(sorted(queues)))
        if bell is None:
            self._ringer.later(queues)
        elif bell.rowcount:
            self._ringer.rang()
        return {row[0] for row in stored.fetchall()} - {row[0] for row in forgotten.fetchall()}

    def _copy(self, session: Session, ordered: list[NewJob]) -> set[str]:
        with session.transaction():
            [(now,)] = session.connection.execute(
                self._statements[sql.CLOCK], {"shift": self.clock_shift}
            ).fetchall()
            with session.connection.cursor().copy(self._statements[sql.COPY]) as copy:
                copy.set_types(sql.COPY_TYPES)
                for job in ordered:
                    copy.write_row(_row(job, now))
            ids = {"ids": Texts(job.id for job in ordered)}
            forgotten = session.connection.execute(self._statements[sql.FORGET_FINISHED], ids).fetchall()
        return {job.id for job in ordered} - {row[0] for row in forgotten}

    def _insert_in_parts(self, session: Session, ordered: list[NewJob]) -> set[str]:
        inserted: set[str] = set()
        with session.transaction():
            for start in range(0, len(ordered), COPY_FROM):
                parameters = _columns(ordered[start : start + COPY_FROM], self.clock_shift)
                stored = session.connection.execute(self._statements[sql.ENQUEUE], parameters)
                forgotten = session.connection.execute(
                    self._statements[sql.FORGET_FINISHED], {"ids": parameters["ids"]}
                )
                inserted |= {row[0] for row in stored} - {row[0] for row in forgotten}
        return inserted


def _id(job: NewJob) -> str:
    return job.id


def _check(job: NewJob) -> None:
    # "Infinity" would be stored well and fail every later settle of the batch it travels in.
    for name in ("delay", "timeout", "result_ttl"):
        value = getattr(job, name)
        if value is not None and not (math.isfinite(value) and 0 <= value <= 1e12):
            raise StorageError(f"{name} of job {job.id} must be between 0 and 1e12 seconds, got {value}")


def _lost(cause: BaseException | None) -> bool:
    """True if the connection went away under the call; a server that refuses us is not asked again."""
    return isinstance(cause, psycopg.Error) and (cause.sqlstate is None or cause.sqlstate.startswith("57P"))


def _receipts(jobs: Sequence[NewJob], inserted: set[str]) -> list[Receipt]:
    receipts = []
    for job in jobs:
        receipts.append(Receipt(job.id, job.id in inserted))
        inserted.discard(job.id)  # an id that is in the batch twice was stored once
    return receipts


def _columns(jobs: Sequence[NewJob], shift: int) -> dict[str, Any]:
    return {
        "ids": Texts(job.id for job in jobs),
        "task_names": Texts(job.task_name for job in jobs),
        "queues": Texts(job.queue for job in jobs),
        "priorities": Bigints(job.priority for job in jobs),
        "payloads": Blobs(job.payload for job in jobs),
        "scheduled": Bigints(job.scheduled_at for job in jobs),
        "delays": Doubles(job.delay for job in jobs),
        "max_retries": Bigints(job.max_retries for job in jobs),
        "timeouts": Doubles(job.timeout for job in jobs),
        "result_ttls": Doubles(job.result_ttl for job in jobs),
        "metadata": Texts(job.metadata for job in jobs),
        "tags": Texts(_tags(job) for job in jobs),
        "shift": shift,
    }


def _fields(job: NewJob, shift: int) -> dict[str, Any]:
    return {
        "id": job.id,
        "task_name": job.task_name,
        "queue": job.queue,
        "priority": job.priority,
        "payload": job.payload,
        "scheduled_at": job.scheduled_at,
        "delay": float(job.delay),
        "retries": job.max_retries,
        "timeout": None if job.timeout is None else float(job.timeout),
        "result_ttl": None if job.result_ttl is None else float(job.result_ttl),
        "metadata_text": job.metadata,
        "tags_text": _tags(job),
        "shift": shift,
    }


def _row(job: NewJob, now: int) -> tuple[Any, ...]:
    due = now + int(job.delay * 1000) if job.scheduled_at is None else job.scheduled_at
    return (
        job.id,
        job.task_name,
        job.queue,
        job.priority,
        job.payload,
        now,
        due,
        job.max_retries,
        None if job.timeout is None else float(job.timeout),
        None if job.result_ttl is None else float(job.result_ttl),
        job.metadata,
        _tags(job),
    )


def _tags(job: NewJob) -> str:
    return json.dumps(job.tags) if job.tags else "[]"
