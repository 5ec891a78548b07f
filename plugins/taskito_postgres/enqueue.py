"""Storing new jobs: one, as arrays, or as a stream; and notifying the workers that wait for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors

from taskito_core import NewJob, Receipt, StorageError, StorageUnavailable, columns
from taskito_postgres import external
from taskito_postgres.arrays import Texts
from taskito_postgres.batch import MAX_BYTES, Batch, plain_arrays
from taskito_postgres.connection import leads_astray
from taskito_postgres.gates import Cascade, GatesMixin
from taskito_postgres.session import Session
from taskito_postgres.sql import enqueue as sql
from taskito_postgres.sql import wakeups

#: From here on COPY is faster than arrays.
COPY_FROM = 2000
#: Times a batch is sent over a lost connection before the call fails.
SENDINGS = 3

_values_of = columns.values_of(columns.PLAIN)
_NAMES = tuple(column.name for column in columns.PLAIN)
_REALS = tuple(index for index, column in enumerate(columns.PLAIN) if column.kind is columns.Kind.REAL)


class EnqueueMixin(GatesMixin):
    """``enqueue`` of the contract."""

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        if not jobs:
            return []
        for job in jobs:
            _check(job)
        doing = f"enqueue {len(jobs)} job(s)"
        if connection is not None:
            return self._enqueue_external(connection, jobs, doing)
        plain = all(map(columns.is_plain, jobs))
        ordered = sorted(jobs, key=_id) if plain else list(jobs)
        queues = {job.queue for job in jobs}
        connected = False

        def store(session: Session) -> list[Receipt]:
            nonlocal connected
            connected = True
            # Nothing at all is inserted also if a queue has a ceiling.
            if plain and (inserted := self._store_plain(session, ordered, queues)):
                return _receipts(jobs, inserted)
            return self._store_full(session, jobs, queues)

        for sending in range(1, SENDINGS + 1):
            connected = False
            try:
                return self._connections.on_pool(doing, store)
            except StorageUnavailable as error:
                # Whether the lost commit happened does not matter: the same ids store nothing twice. A server
                # that cannot be reached is not tried again here: each try may last as long as its timeout.
                if sending == SENDINGS or not (connected and _lost(error.__cause__)):
                    raise
        raise AssertionError("the last sending returns or raises")

    # ---- jobs without a gate ----

    def _store_plain(self, session: Session, ordered: list[NewJob], queues: set[str]) -> set[str]:
        """The ids that were inserted."""
        if len(ordered) >= COPY_FROM or sum(len(job.payload) for job in ordered) > MAX_BYTES:
            try:
                inserted = self._copy(session, ordered)
            except errors.UniqueViolation:
                # Sent before, at least in part. COPY cannot skip what is there.
                inserted = self._insert_in_parts(session, ordered)
            self._notifier.notify_soon(queues)
            return inserted
        return self._insert(session, ordered, queues)

    def _insert(self, session: Session, ordered: list[NewJob], queues: set[str]) -> set[str]:
        """One round trip: the rows, and in a second transaction the notification."""
        if len(ordered) == 1:
            enqueue, undo = sql.ENQUEUE_ONE, sql.UNDO_FINISHED_ONE
            parameters = _one(ordered[0], self.clock_shift)
        else:
            enqueue, undo = sql.ENQUEUE, sql.UNDO_FINISHED
            parameters = plain_arrays(ordered, self.clock_shift)
        notified = None
        with session.round_trip() as trip:
            stored = trip.run(self._statements[enqueue], parameters)
            undone = trip.run(self._statements[undo], parameters)
            if self._notifier.may_notify():
                trip.commit()
                arrivals = self._arrivals(sorted(queues))
                notified = trip.run(self._statements[wakeups.NOTIFY_WORKERS], arrivals)
        if notified is None:
            self._notifier.notify_soon(queues)
        elif notified.rowcount:
            self._notifier.notified()
        return {row[0] for row in stored.fetchall()} - {row[0] for row in undone.fetchall()}

    def _copy(self, session: Session, ordered: list[NewJob]) -> set[str]:
        with session.transaction():
            asked = {"queues": Texts({job.queue for job in ordered}), "shift": self.clock_shift}
            statement = self._statements[sql.COPY_CLOCK]
            [(now, bounded)] = session.connection.execute(statement, asked).fetchall()
            if bounded:
                return set()
            with session.connection.cursor().copy(self._statements[sql.COPY]) as copy:
                copy.set_types(sql.COPY_TYPES)
                for job in ordered:
                    copy.write_row(_row(job, now))
            ids = {"id": Texts(job.id for job in ordered)}
            undone = session.connection.execute(self._statements[sql.UNDO_FINISHED], ids).fetchall()
        return {job.id for job in ordered} - {row[0] for row in undone}

    def _insert_in_parts(self, session: Session, ordered: list[NewJob]) -> set[str]:
        inserted: set[str] = set()
        with session.transaction():
            for start in range(0, len(ordered), COPY_FROM):
                parameters = plain_arrays(ordered[start : start + COPY_FROM], self.clock_shift)
                stored = session.connection.execute(self._statements[sql.ENQUEUE], parameters)
                undone = session.connection.execute(self._statements[sql.UNDO_FINISHED], parameters)
                inserted |= {row[0] for row in stored} - {row[0] for row in undone}
        return inserted

    # ---- all others ----

    def _store_full(self, session: Session, jobs: Sequence[NewJob], queues: set[str]) -> list[Receipt]:
        """In a transaction that depends on its own answers; after its commit, the cascade."""
        try:
            receipts, cascade = self._store_batch(session, jobs, locks_parents=True)
        except errors.LockNotAvailable:
            receipts, cascade = self._store_batch(session, jobs, locks_parents=False)
        self._cascade_after_enqueue(session, cascade, queues)
        return receipts

    def _store_batch(
        self, session: Session, jobs: Sequence[NewJob], locks_parents: bool
    ) -> tuple[list[Receipt], Cascade]:
        with session.transaction():
            run = session.runner(self._statements)
            batch = Batch(
                run, self.config.schema, self.clock_shift, locks_parents=locks_parents, bounded=True
            )
            return batch.store(jobs), batch.cascade

    def _enqueue_external(self, connection: object, jobs: Sequence[NewJob], doing: str) -> list[Receipt]:
        """In the caller's transaction. It ends when the caller likes: no row is locked that others need."""
        self._connections.ready(doing)
        with (
            self._connections.translated(doing),
            external.borrowed(connection, self._statements) as borrowed,
        ):
            batch = Batch(borrowed.run, self.config.schema, self.clock_shift, external=True, bounded=True)
            receipts = batch.store(jobs)
            # Delivered at the commit. Which workers will wait then cannot be seen now: sent in any case.
            queues = Texts(sorted({job.queue for job in jobs}))
            borrowed.notify(wakeups.NOTIFY, {"channel": self._work_channel, "payloads": queues})
        return receipts


def _id(job: NewJob) -> str:
    return job.id


def _check(job: NewJob) -> None:
    # "Infinity" would be stored well and fail every later settle of the batch it travels in.
    for name in ("delay", "timeout", "result_ttl", "expires"):
        value = getattr(job, name)
        if value is not None and not (math.isfinite(value) and 0 <= value <= 1e12):
            raise StorageError(f"{name} of job {job.id} must be between 0 and 1e12 seconds, got {value}")


def _lost(cause: BaseException | None) -> bool:
    """True if the connection went away under the call; a server that refuses us is not asked again."""
    return isinstance(cause, psycopg.Error) and (cause.sqlstate is None or leads_astray(cause))


def _receipts(jobs: Sequence[NewJob], inserted: set[str]) -> list[Receipt]:
    receipts = []
    for job in jobs:
        receipts.append(Receipt(job.id, job.id in inserted))
        inserted.discard(job.id)  # an id that is in the batch twice was stored once
    return receipts


def _values(job: NewJob) -> list[Any]:
    """What goes into the columns PLAIN, a real number as one: psycopg tells types by the class."""
    values = list(_values_of(job))
    for index in _REALS:
        if values[index] is not None:
            values[index] = float(values[index])
    return values


def _one(job: NewJob, shift: int) -> dict[str, Any]:
    """The parameters of ENQUEUE_ONE."""
    parameters = dict(zip(_NAMES, _values(job), strict=True))
    parameters.update(scheduled_at=job.scheduled_at, delay=float(job.delay), shift=shift)
    return parameters


def _row(job: NewJob, now: int) -> tuple[Any, ...]:
    """A row of COPY."""
    if job.scheduled_at is not None or not job.delay:
        return (*_values(job), now, now if job.scheduled_at is None else job.scheduled_at, None)
    return (*_values(job), now, now + int(job.delay * 1000), now)
