"""The producer's side: storing jobs, and ringing whoever waits for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import psycopg
from psycopg import errors

from taskito_core import NewJob, Receipt, StorageError, StorageUnavailable
from taskito_postgres import external, sql
from taskito_postgres.arrays import Texts
from taskito_postgres.columns import columns, fields, row
from taskito_postgres.follow import Aftermath, Follow
from taskito_postgres.intake import MAX_BYTES, Intake, is_plain
from taskito_postgres.session import Session

log = logging.getLogger("taskito.postgres")

#: From here on COPY is faster than arrays.
COPY_FROM = 2000
#: Times a batch is sent over a lost connection before the caller hears of it.
SENDINGS = 3


class Produce(Follow):
    """``enqueue`` of the contract."""

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        if not jobs:
            return []
        for job in jobs:
            _check(job)
        doing = f"enqueue {len(jobs)} job(s)"
        if connection is not None:
            return self._enqueue_within(connection, jobs, doing)
        plain = all(map(is_plain, jobs))
        ordered = sorted(jobs, key=_id) if plain else list(jobs)
        queues = {job.queue for job in jobs}
        connected = False

        def store(session: Session) -> list[Receipt]:
            nonlocal connected
            connected = True
            if plain:
                return _receipts(jobs, self._store(session, ordered, queues))
            return self._store_gated(session, jobs, queues)

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

    def _store_gated(self, session: Session, jobs: Sequence[NewJob], queues: set[str]) -> list[Receipt]:
        """In a transaction that looks at its own answers, and after its commit, what follows."""
        try:
            receipts, rest = self._take_in(session, jobs, touches=True)
        except errors.LockNotAvailable:
            receipts, rest = self._take_in(session, jobs, touches=False)
        self._after_commit(session, rest, queues)
        return receipts

    def _take_in(
        self, session: Session, jobs: Sequence[NewJob], touches: bool
    ) -> tuple[list[Receipt], Aftermath]:
        with session.transaction():
            intake = self._intake(session, touches)
            return intake.store(jobs), intake.rest

    def _intake(self, session: Session, touches: bool = True) -> Intake:
        run = session.runner(self._statements)
        return Intake(run, self.config.schema, self.clock_shift, touches=touches)

    def _after_commit(self, session: Session, rest: Aftermath, queues: set[str]) -> None:
        """What was stored is stored: a failure here only means that the next sweep does it."""
        try:
            if rest.goes_on:
                self._follow(session, rest)
            self._announce(session, rest)
        except psycopg.Error as error:
            log.warning(
                "after enqueueing: %s", self._connections.translate(error, "open what can be claimed")
            )
        self._ringer.later(queues | rest.queues)

    def _enqueue_within(self, connection: object, jobs: Sequence[NewJob], doing: str) -> list[Receipt]:
        """In the caller's transaction. It ends when the caller likes: nothing is locked that others need."""
        self._connections.ready(doing)
        with self._connections.translated(doing), external.borrowed(connection) as cursor:
            intake = Intake(
                external.runner(cursor, self._statements), self.config.schema, self.clock_shift, lasting=True
            )
            receipts = intake.store(jobs)
            # Delivered at the commit. Who will be waiting then cannot be seen now, so it is sent in any case.
            alarm = {"channel": self._work_channel, "payloads": Texts(sorted({job.queue for job in jobs}))}
            external.run(cursor, self._statements[sql.SHOUT], alarm)
        return receipts

    def _insert(self, session: Session, ordered: list[NewJob], queues: set[str]) -> set[str]:
        """One round trip: the rows, and in a second transaction the bell."""
        if len(ordered) == 1:
            enqueue, forget = sql.ENQUEUE_ONE, sql.FORGET_FINISHED_ONE
            parameters = fields(ordered[0], self.clock_shift)
        else:
            enqueue, forget = sql.ENQUEUE, sql.FORGET_FINISHED
            parameters = columns(ordered, self.clock_shift)
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
                    copy.write_row(row(job, now))
            ids = {"ids": Texts(job.id for job in ordered)}
            forgotten = session.connection.execute(self._statements[sql.FORGET_FINISHED], ids).fetchall()
        return {job.id for job in ordered} - {row[0] for row in forgotten}

    def _insert_in_parts(self, session: Session, ordered: list[NewJob]) -> set[str]:
        inserted: set[str] = set()
        with session.transaction():
            for start in range(0, len(ordered), COPY_FROM):
                parameters = columns(ordered[start : start + COPY_FROM], self.clock_shift)
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
    for name in ("delay", "timeout", "result_ttl", "expires"):
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
