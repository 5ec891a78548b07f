"""Waiting for jobs to arrive or to end, and notifying those who wait, after a commit.

Behind each socket the database is checked too, seldom; without a socket its change counter is polled.
"""

from __future__ import annotations

import functools
import json
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from taskito_core import StorageConfig
from taskito_sqlite import checkpoint, external, notify_socket
from taskito_sqlite.base import Base
from taskito_sqlite.commit_watch import ChangeCounter, CommitWatch, ExpectedCommit, poll_interval
from taskito_sqlite.connection import Database
from taskito_sqlite.notify_socket import NotifySocket
from taskito_sqlite.sql import wakeups as sql

T = TypeVar("T")

#: Seconds between two checks of one who waits at a socket, in case the notification was lost.
CHECK_INTERVAL = 1.0
#: Seconds between two checks whether one who waits for many jobs was told to return.
WOKEN_INTERVAL = 0.02
#: Jobs whose ends are asked for in one transaction: others write too.
REGISTERED_AT_ONCE = 500
#: Sockets that no thread waits at now, kept for the next ones that wait.
SOCKETS_KEPT = 8


class WorkerWakeups:
    """The Wakeups of one worker: its socket, its interrupt, and the change counter behind both."""

    def __init__(self, database: Database, notified: NotifySocket | None) -> None:
        self._notified = notified
        self._counter = ChangeCounter(database)
        self._counter.changed()  # from here on
        self._changed_at = time.monotonic()
        self._interrupted, self._interrupt = socket.socketpair()
        for end in (self._interrupted, self._interrupt):
            end.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._interrupted, select.POLLIN)
        if notified is not None:
            self._poll.register(notified, select.POLLIN)

    @property
    def address(self) -> str | None:
        """Where to notify it, if it has a socket."""
        return None if self._notified is None else self._notified.address

    def wait(self, timeout: float) -> bool:
        """As ``Wakeups.wait``."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            events = self._poll.poll(1000 * min(left, self._interval()))
            woken, interrupted = self._drain(events)
            if woken or interrupted:
                return woken
            if self._counter.changed():
                self._changed_at = time.monotonic()
                return True
            if time.monotonic() >= deadline:
                return False

    def interrupt(self) -> None:
        """As ``Wakeups.interrupt``."""
        try:
            self._interrupt.send(b"!")
        except OSError:
            pass  # full: it is interrupted already; closed: it waits no more

    def close(self) -> None:
        """As ``Wakeups.close``."""
        if self._notified is not None:
            self._notified.close()
        self._counter.close()
        self._interrupted.close()
        self._interrupt.close()

    def _drain(self, events: list[tuple[int, int]]) -> tuple[bool, bool]:
        """Whether it was notified, and whether it was interrupted."""
        ready = {descriptor for descriptor, _ in events}
        woken = self._notified is not None and self._notified.fileno() in ready and self._notified.drain()
        interrupted = self._interrupted.fileno() in ready
        if interrupted:
            try:
                while self._interrupted.recv(64):
                    pass
            except OSError:
                pass
        return woken, interrupted

    def _interval(self) -> float:
        if self._notified is not None and self._notified.exists():
            return CHECK_INTERVAL
        return poll_interval(time.monotonic() - self._changed_at)


class JobWaiters:
    """The threads of this process that wait for jobs: each at a socket, which is kept and used again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free: list[NotifySocket] = []

    def wait(self, job_id: str, timeout: float) -> bool:
        """Block until the job has ended, or ``timeout`` seconds; True if it has."""
        deadline = time.monotonic() + timeout
        ended, awaited = self._state(job_id)
        if ended or timeout <= 0:
            return ended
        notified = self._take()
        if notified is None:
            return self._poll_until(lambda: self._state(job_id)[0], deadline)
        try:
            if notified.address not in awaited and not self._register(job_id, notified.address):
                return True
            return self._wait_at(notified, job_id, deadline)
        finally:
            self._give_back(notified)

    def wait_any(self, ids: Sequence[str], timeout: float, woken: threading.Event) -> list[str]:
        """As ``Storage.await_any``."""
        deadline = time.monotonic() + timeout
        ended, unasked = self._states(ids, "")
        if ended or timeout <= 0:
            return ended
        notified = self._take()
        if notified is None:
            self._poll_until(lambda: woken.is_set() or bool(self._states(ids, "")[0]), deadline)
            return self._states(ids, "")[0]
        try:
            ended, unasked = self._states(ids, notified.address)
            if unasked:
                self._register_many(unasked, notified.address)
                # One that ended before that is not notified any more.
                ended, _ = self._states(ids, notified.address)
            return ended or self._wait_for_any(notified, ids, deadline, woken)
        finally:
            self._give_back(notified)

    def wait_for(self, happened: Callable[[], bool], job_id: str, timeout: float) -> bool:
        """Block until ``happened()`` or the job has ended; both are checked whenever a commit was made."""
        return self._poll_until(lambda: happened() or self._state(job_id)[0], time.monotonic() + timeout)

    def close(self) -> None:
        """Close the sockets at which no thread waits now."""
        while self._free:
            self._free.pop().close()

    def _wait_at(self, notified: NotifySocket, job_id: str, deadline: float) -> bool:
        poll = select.poll()
        poll.register(notified, select.POLLIN)
        while True:
            left = max(0.0, deadline - time.monotonic())
            poll.poll(1000 * min(left, CHECK_INTERVAL))
            # Before the check: a notification that comes after it must not be lost.
            notified.drain()
            ended, _ = self._state(job_id)
            if ended or time.monotonic() >= deadline:
                return ended

    def _wait_for_any(
        self, notified: NotifySocket, ids: Sequence[str], deadline: float, woken: threading.Event
    ) -> list[str]:
        poll = select.poll()
        poll.register(notified, select.POLLIN)
        check_at = time.monotonic() + CHECK_INTERVAL
        while True:
            now = time.monotonic()
            heard = bool(poll.poll(1000 * max(0.0, min(deadline - now, WOKEN_INTERVAL))))
            now = time.monotonic()
            over = now >= deadline or woken.is_set()
            if heard or over or now >= check_at:
                notified.drain()
                ended, _ = self._states(ids, notified.address)
                if ended or over:
                    return ended
                check_at = now + CHECK_INTERVAL

    def _poll_until(self, happened: Callable[[], bool], deadline: float) -> bool:
        counter = ChangeCounter(self._database)
        started = time.monotonic()
        try:
            while True:
                found = happened()
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                while left > 0 and not counter.changed():
                    time.sleep(min(left, poll_interval(time.monotonic() - started)))
                    left = deadline - time.monotonic()
        finally:
            counter.close()

    def _take(self) -> NotifySocket | None:
        try:
            free = self._free.pop()
        except IndexError:
            return notify_socket.open_socket()
        free.drain()
        if free.exists():
            return free
        free.close()
        return notify_socket.open_socket()

    def _give_back(self, notified: NotifySocket) -> None:
        if len(self._free) < SOCKETS_KEPT:
            self._free.append(notified)
        else:
            notified.close()

    def _state(self, job_id: str) -> tuple[bool, list[str]]:
        """Whether the job has ended (or is not stored), and the addresses of those who wait for that."""
        row = self._database.read(
            lambda connection: connection.execute(sql.IS_AWAITED, {"id": job_id}).fetchone()
        )
        if row is None:
            return True, []
        return bool(row[0]), (row[1] or "").split("\n")

    def _states(self, ids: Sequence[str], address: str) -> tuple[list[str], list[str]]:
        """Which of these jobs have ended (or are not stored), and which others do not have the address."""
        values = {"ids": json.dumps(ids), "address": address}
        rows = self._database.read(lambda connection: connection.execute(sql.ARE_AWAITED, values).fetchall())
        going_on = {job_id for job_id, over, _ in rows if not over}
        unasked = [job_id for job_id, over, asked in rows if not (over or asked)]
        return [job_id for job_id in ids if job_id not in going_on], unasked

    def _register_many(self, ids: Sequence[str], address: str) -> None:
        """Have the address notified at the end of each of these jobs."""
        for at in range(0, len(ids), REGISTERED_AT_ONCE):
            values = {"ids": json.dumps(ids[at : at + REGISTERED_AT_ONCE]), "address": address}
            self._database.write(functools.partial(_await_many, values=values), durable=False)

    def _register(self, job_id: str, address: str) -> bool:
        """Have the address notified at the end; False if the job has ended meanwhile."""
        values = {"id": job_id, "address": address}
        row = self._database.write(
            lambda connection: connection.execute(sql.AWAIT, values).fetchone(), durable=False
        )
        return row is not None


class WakeupsMixin(Base):
    """``listen`` and ``await_finished`` of the contract; and for its siblings, notifying after a commit."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._checkpoints = checkpoint.Policy(self._database)
        self._waiters = JobWaiters(self._database)
        self._commit_watch = CommitWatch(self._database, self._notify_of_commit)
        #: Wakeups whose worker has yet to register: worker id -> (address, queues as JSON).
        self._early_wakeups: dict[str, tuple[str | None, str]] = {}

    def listen(self, worker_id: str, queues: Sequence[str]) -> WorkerWakeups:
        """As ``Storage.listen``; the worker may register before or after."""
        self._ready()
        notify_socket.remove_stale()
        wakeups = WorkerWakeups(self._database, notify_socket.open_socket())
        listed = json.dumps(list(queues))
        values = {"worker": worker_id, "address": wakeups.address, "queues": listed}
        try:
            found = self._write(
                lambda connection: connection.execute(sql.SET_ADDRESS, values).rowcount, durable=False
            )
        except BaseException:
            wakeups.close()
            raise
        if not found:
            self._early_wakeups[worker_id] = (wakeups.address, listed)
        return wakeups

    def await_finished(self, job_id: str, timeout: float) -> bool:
        """As ``Storage.await_finished``."""
        self._ready()
        return self._waiters.wait(job_id, timeout)

    def await_any(self, ids: Sequence[str], timeout: float, woken: threading.Event) -> list[str]:
        """As ``Storage.await_any``."""
        self._ready()
        return self._waiters.wait_any(ids, timeout, woken)

    # ---- after a commit of ours ----

    def _write_and_notify(self, work: Callable[[sqlite3.Connection], tuple[T, set[str]]]) -> T:
        """``_write`` for work that also returns the addresses to notify after its commit."""
        answer, addresses = self._write(work)
        self._notify(addresses)
        return answer

    def _to_notify(self, connection: sqlite3.Connection, queues: set[str]) -> set[str]:
        """The addresses to notify after the commit: of workers that wait for these queues, and of those who
        wait for jobs that have ended."""
        waiters = set(take_waiters(connection))
        return waiters | self._waiting_workers(connection, queues) if queues else waiters

    def _waiting_workers(
        self, connection: sqlite3.Connection, queues: Iterable[str], but: str | None = None
    ) -> set[str]:
        """The addresses of the workers that wait for jobs of these queues."""
        return self._workers_and_ceilings(connection, queues, but)[0]

    def _workers_and_ceilings(
        self, connection: sqlite3.Connection, queues: Iterable[str], but: str | None = None
    ) -> tuple[set[str], dict[str, int]]:
        """The same, and how many pending jobs queues may hold that have a ceiling."""
        addresses: set[str] = set()
        ceilings: dict[str, int] = {}
        last_seen = 0
        for worker_id, waiting, address, listens, seen in connection.execute(sql.LIVE_WORKERS):
            if worker_id is None:
                ceilings[listens] = waiting
                continue
            last_seen = max(last_seen, seen)
            if waiting and address and worker_id != but and not _names(listens).isdisjoint(queues):
                addresses.add(address)
        self._checkpoints.worker_seen(last_seen, self.now())
        return addresses, ceilings

    def _notify(self, addresses: Iterable[str]) -> None:
        if addresses:
            notify_socket.notify(addresses)

    # ---- after a commit of the caller's ----

    def _within(
        self,
        given: object,
        work: Callable[[sqlite3.Connection], T],
        expect: Callable[[T], ExpectedCommit | None],
    ) -> T:
        """Run ``work`` in the caller's transaction, and notify once what ``expect`` says is committed."""
        self._ready()
        answer, committed = external.run(given, self._database, work)
        expected = expect(answer)
        if expected is not None:
            if committed:
                self._notify_of_commit(set(expected.queues))
            else:
                self._commit_watch.expect(expected)
        return answer

    def _notify_of_commit(self, queues: set[str]) -> None:
        """Notify the workers that wait for these queues, and those who wait for jobs that have ended.

        Reading is enough to find the workers: one whose mark cannot be seen yet claims after that commit.
        """

        def find(connection: sqlite3.Connection) -> tuple[set[str], bool]:
            awaited = connection.execute(sql.FINISHED_AWAITED).fetchone() is not None
            return self._waiting_workers(connection, queues), awaited

        addresses, awaited = self._read(find)
        if awaited:
            addresses |= self._write(take_waiters, durable=False)
        self._notify(addresses)


def take_waiters(connection: sqlite3.Connection) -> frozenset[str]:
    """The addresses to notify for jobs that have ended; this transaction forgets them."""
    rows = connection.execute(sql.FINISHED_AWAITED).fetchall()
    if not rows:
        return frozenset()
    connection.execute(sql.CLEAR_AWAITED)
    return frozenset(address for _, awaited in rows for address in awaited.split("\n"))


def _await_many(connection: sqlite3.Connection, values: Mapping[str, str]) -> int:
    return connection.execute(sql.AWAIT_MANY, values).rowcount


@functools.lru_cache(maxsize=256)
def _names(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))
