"""The producer's side: storing jobs, and ringing whoever waits for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg
from psycopg import errors

from taskito_core import NewJob, Receipt, StorageUnavailable
from taskito_postgres import external, gates, rows, sql
from taskito_postgres.aftermath import Loose
from taskito_postgres.arrays import Texts
from taskito_postgres.base import Base
from taskito_postgres.relations import Relating, Stored
from taskito_postgres.session import Session

T = TypeVar("T")

#: From here on COPY is faster than arrays.
COPY_FROM = 2000
#: Bytes of payload in one INSERT; an array of PostgreSQL ends at 1 GB.
MAX_BYTES = 256 * 1024 * 1024
#: Times a batch is sent over a lost connection before the caller hears of it.
SENDINGS = 3


class Produce(Base):
    """``enqueue`` of the contract."""

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        if not jobs:
            return []
        for job in jobs:
            rows.check(job)
        if connection is not None:
            return _receipts(jobs, self._store_in(connection, jobs))
        queues = {job.queue for job in jobs}
        if any(map(rows.is_related, jobs)):
            stored = self._send(jobs, lambda session: self._store_related(session, jobs, queues))
        else:
            ordered = sorted(jobs, key=_id)
            inserted = self._send(jobs, lambda session: self._store(session, ordered, queues))
            stored = Stored(inserted)
        return _receipts(jobs, stored)

    def _send(self, jobs: Sequence[NewJob], store: Callable[[Session], T]) -> T:
        doing = f"enqueue {len(jobs)} job(s)"
        connected = False

        def once(session: Session) -> T:
            nonlocal connected
            connected = True
            return store(session)

        for sending in range(1, SENDINGS + 1):
            connected = False
            try:
                return self._connections.on_pool(doing, once)
            except StorageUnavailable as error:
                # Whether the lost commit happened does not matter: the same ids store nothing twice. A server
                # that cannot be reached is not tried again here: each try may last as long as its timeout.
                if sending == SENDINGS or not (connected and _lost(error.__cause__)):
                    raise
        raise AssertionError("the last sending returned or raised")

    def _store(self, session: Session, ordered: list[NewJob], queues: set[str]) -> set[str]:
        if any(map(rows.has_more, ordered)):
            return self._insert_in_parts(session, ordered, queues)
        if len(ordered) >= COPY_FROM or sum(len(job.payload) for job in ordered) > MAX_BYTES:
            try:
                inserted = self._copy(session, ordered)
            except errors.UniqueViolation:
                # Sent before, at least in part. COPY cannot skip what is there.
                return self._insert_in_parts(session, ordered, queues)
            self._ringer.later(queues)
            return inserted
        return self._insert(session, ordered, queues)

    def _insert(self, session: Session, ordered: list[NewJob], queues: set[str]) -> set[str]:
        """One round trip: the rows, and in a second transaction the bell."""
        if len(ordered) == 1:
            enqueue, forget = sql.ENQUEUE_ONE, sql.FORGET_FINISHED_ONE
            parameters = rows.fields(ordered[0], self.clock_shift)
        else:
            enqueue, forget = sql.ENQUEUE, sql.FORGET_FINISHED
            parameters = rows.columns(ordered, self.clock_shift)
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
                    copy.write_row(rows.copied(job, now))
            ids = {"ids": Texts(job.id for job in ordered)}
            forgotten = session.connection.execute(self._statements[sql.FORGET_FINISHED], ids).fetchall()
        return {job.id for job in ordered} - {row[0] for row in forgotten}

    def _insert_in_parts(self, session: Session, ordered: list[NewJob], queues: set[str]) -> set[str]:
        with session.transaction():
            inserted = Relating(session.runner(self._statements), ordered, self.clock_shift).store().inserted
        self._ringer.later(queues)
        return inserted

    def _store_related(self, session: Session, jobs: Sequence[NewJob], queues: set[str]) -> Stored:
        with session.transaction():
            stored = Relating(session.runner(self._statements), jobs, self.clock_shift).store()
        new = [job for job in jobs if job.id in stored.inserted]
        loose = Loose(
            children=[job.id for job in new if job.parents],
            keys={job.concurrency_key for job in new if job.concurrency_key is not None},
        )
        self._aftermath().tie_up(session, loose)
        if dropping := [job for job in new if job.drop_excess and job.id not in loose.opened]:
            self._drop_excess(session, dropping, loose)
        self._tell(session, loose)
        self._ringer.later(queues | loose.queues)
        return stored

    def _drop_excess(self, session: Session, jobs: Sequence[NewJob], loose: Loose) -> None:
        due = [job for job in jobs if not job.delay and job.scheduled_at is None]
        with session.turn() as turn:
            parameters = {"ids": Texts(job.id for job in due), "shift": self.clock_shift}
            dropped = turn.run(self._statements[gates.DROP_EXCESS], parameters)
        loose.ended(dropped.fetchall())
        self._aftermath().tie_up(session, loose)

    def _store_in(self, connection: object, jobs: Sequence[NewJob]) -> Stored:
        """Store them in the caller's transaction; waits for nothing others hold, and locks nothing of theirs.

        Places are left to the next sweep, because giving one away takes a lock that would last until the
        caller commits; so is a parent that ends meanwhile.
        """
        self._connections.prepare()

        def work(run: external.Runner) -> Stored:
            stored = Relating(run, jobs, self.clock_shift, key_gate="later").store()
            children = [job.id for job in jobs if job.id in stored.inserted and job.parents]
            if children:
                about = {"parents": Texts(()), "children": Texts(children), "shift": self.clock_shift}
                run(gates.DOOM, about)
                run(gates.FREE, about)
            # Delivered when the caller commits, and not at all if the caller does not.
            run(sql.RING_INSIDE, self._bell(sorted({job.queue for job in jobs})))
            return stored

        with self._connections.translated(f"enqueue {len(jobs)} job(s) in your transaction"):
            return external.run(connection, self._statements, work)


def _id(job: NewJob) -> str:
    return job.id


def _lost(cause: BaseException | None) -> bool:
    """True if the connection went away under the call; a server that refuses us is not asked again."""
    return isinstance(cause, psycopg.Error) and (cause.sqlstate is None or cause.sqlstate.startswith("57P"))


def _receipts(jobs: Sequence[NewJob], stored: Stored) -> list[Receipt]:
    receipts = []
    inserted = set(stored.inserted)
    for job in jobs:
        stand_in = job.id
        while (holder := stored.stand_ins.get(stand_in)) is not None:
            stand_in = holder
        receipts.append(Receipt(stand_in, job.id in inserted))
        inserted.discard(job.id)  # an id that is in the batch twice was stored once
    return receipts
