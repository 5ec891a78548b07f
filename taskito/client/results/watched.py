"""Waiting for the end of many jobs, and how far they are meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple, Protocol

from taskito.client.aio import Wait
from taskito_core.job import FINISHED, JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_client import Counts, JobFilter

#: Seconds between two looks at jobs of which there are too many to be told of each end.
TICK = 1.0
#: Jobs whose ends are listened for at once: the first of those that are left.
LISTENED_FOR = 100
#: Jobs that are read at once.
_PAGE = 500
#: Seconds between two readings, however many jobs end meanwhile.
_PAUSE = 0.05
#: A reading that takes long is repeated so many times its own length later.
_SPARED = 10

LIVE = tuple(sorted(set(JobStatus) - FINISHED))


class EndCount(NamedTuple):
    """How far some jobs are."""

    total: int
    ended: int
    failed: int  #: of those that ended: dead, cancelled, or stored no more

    @property
    def over(self) -> bool:
        return self.ended >= self.total


class Watched(Protocol):
    """Some jobs that somebody waits for."""

    def read(self) -> EndCount:
        """How far they are now."""
        ...

    def listen(self, timeout: float) -> None:
        """Return when one of them may have ended, or after so many seconds."""
        ...


def follow(watched: Watched, wait: Wait, show: Callable[[EndCount], None]) -> EndCount:
    """Return when all of them have ended, and ``show`` how far they are at least once a second.

    Raises StorageUnavailable, and the builtin TimeoutError when the wait is over.
    """
    while True:
        began = time.monotonic()
        count = watched.read()
        show(count)
        if count.over:
            return count
        took = time.monotonic() - began
        if (remaining := wait.remaining) <= 0:
            left = count.total - count.ended
            jobs = "1 job has" if left == 1 else f"{left} jobs have"
            raise TimeoutError(f"{jobs} not ended after {wait.timeout:g} seconds")
        watched.listen(min(max(TICK, _SPARED * took), remaining))
        wait.abandoned.wait(min(max(_PAUSE, took), max(0.0, wait.remaining)))


class WatchedJobs:
    """Jobs by their ids, and more of them that are found when these have ended."""

    def __init__(
        self, storage: Storage, ids: Iterable[str], find: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._storage = storage
        self._left = dict.fromkeys(ids)  #: ids, in order
        self._seen = set(self._left)
        self._find = find
        self._failed = 0
        self._unread = list(self._left)  #: ids of those that may have ended
        self._others_at = 0.0  #: when those that are not listened for are read

    def read(self) -> EndCount:
        while self._unread:
            page, self._unread = self._unread[:_PAGE], self._unread[_PAGE:]
            self._settle(page)
        if not self._left:
            more = dict.fromkeys(job_id for job_id in self._find() if job_id not in self._seen)
            self._left = more
            self._seen |= more.keys()
        return EndCount(len(self._seen), len(self._seen) - len(self._left), self._failed)

    def listen(self, timeout: float) -> None:
        heard = self._storage.await_any(list(islice(self._left, LISTENED_FOR)), timeout, threading.Event())
        self._unread = list(heard)
        if (now := time.monotonic()) >= self._others_at:
            # Those of whose ends nobody tells, in turn.
            others = list(islice(self._left, LISTENED_FOR, LISTENED_FOR + _PAGE))
            self._left |= {job_id: self._left.pop(job_id) for job_id in others}
            self._unread += others
            self._others_at = now + TICK

    def _settle(self, ids: list[str]) -> None:
        found = {job.id: job.status for job in self._storage.get(ids)}
        for job_id in ids:
            status = found.get(job_id)
            if (status is None or status.finished) and job_id in self._left:
                del self._left[job_id]
                self._failed += status is not JobStatus.COMPLETE


class WatchedQueue:
    """All jobs of a queue, until none is pending or running; those that had ended before do not count."""

    def __init__(self, storage: Storage, queue: str) -> None:
        self._storage = storage
        self._queue = queue
        self._since = EndCounter(self._counts())
        self._live = 0

    def read(self) -> EndCount:
        count = self._since.add(self._counts())
        self._live = count.total - count.ended
        return count

    def listen(self, timeout: float) -> None:
        if self._live > LISTENED_FOR:
            time.sleep(timeout)
            return
        page = self._storage.list_jobs(JobFilter(statuses=LIVE, queue=self._queue), LISTENED_FOR, None)
        if page.jobs:
            self._storage.await_any([job.id for job in page.jobs], timeout, threading.Event())

    def _counts(self) -> Counts:
        return self._storage.counts(exact=True).by_queue.get(self._queue, Counts())


class EndCounter:
    """What has ended since some jobs were first counted."""

    def __init__(self, before: Counts) -> None:
        self._before = before
        self._ended = self._failed = 0

    def add(self, now: Counts) -> EndCount:
        failed = _failed(now) - _failed(self._before)
        ended = now.complete - self._before.complete + failed
        # What is deleted meanwhile has ended all the same.
        self._ended, self._failed = max(ended, self._ended), max(failed, self._failed)
        return EndCount(self._ended + now.pending + now.running, self._ended, self._failed)


def _failed(counts: Counts) -> int:
    return counts.dead + counts.cancelled


def ids_of(storage: Storage, where: JobFilter) -> list[str]:
    """The ids of all jobs that match, oldest first."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = storage.list_jobs(where, _PAGE, cursor)
        found += [job.id for job in page.jobs]
        if (cursor := page.cursor) is None:
            return found[::-1]
