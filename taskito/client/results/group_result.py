"""The handle of a group: its members, and their results, nested as the groups are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from taskito.client import aio
from taskito.client.aio import EndListener, Wait
from taskito.client.results.job_end import await_finished
from taskito.client.results.job_result import JobReader, JobResult, value_of
from taskito.running_job.group_shape import filled, leaves
from taskito_core.job import Job, JobStatus

#: Members that are read at once.
_PAGE = 500
#: A tag of every member of a group.
GROUP_TAG = "group:{id}"


class GroupResult:
    """The handle of a group: its members' handles in order, nested as the groups are."""

    def __init__(self, reader: JobReader | None, shape: list[Any], group_id: str | None = None) -> None:
        self.id = group_id  #: its members have the tag ``group:ID``; None: it has no members
        self._reader = cast(JobReader, reader)  # None only for a group without members, which asks nothing
        self._shape = shape

    @property
    def ids(self) -> list[str]:
        """The ids of all members, in order."""
        return list(leaves(self._shape))

    @property
    def jobs(self) -> list[JobResult[Any]]:
        """The handles of all members, in order."""
        return [JobResult(self._reader, job_id) for job_id in self.ids]

    def statuses(self) -> dict[JobStatus, int]:
        """How many members are in which state; members that are stored no more are left out."""
        jobs = (job for page in self._pages() for job in page.values())
        return dict(Counter(job.status for job in jobs if job is not None))

    def results(self, timeout: float | None = 30.0) -> list[Any]:
        """What the members returned, in order; waits up to ``timeout`` seconds in all (None: for ever).

        Raises what ``result()`` of the first member that did not complete raises, or TimeoutError.
        """
        return self._results(Wait(timeout))

    async def aresults(self, timeout: float | None = 30.0) -> list[Any]:
        """``results`` without blocking the event loop."""
        wait = Wait(timeout)
        listener = self._reader.end_listener if self._reader is not None else None
        try:
            if listener is None:
                return await aio.in_own_thread(self._results, wait)
            await self._settled(listener, wait)
            # What has not ended by now is late or not stored, or a member before it failed.
            wait.abandoned.set()
            return await aio.in_thread(self._results, wait)
        finally:
            wait.abandoned.set()

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> dict[JobStatus, int]:
        """Return when all members have ended, however they did; how many are in which state.

        Waits up to ``timeout`` seconds (None: for ever), then TimeoutError. ``progress``: show on standard
        error how far they are: a bar if rich is installed, else a line a second.
        """
        return self._wait(Wait(timeout), progress)

    async def await_all(
        self, timeout: float | None = None, *, progress: bool = False
    ) -> dict[JobStatus, int]:
        """``wait`` without blocking the event loop."""
        wait = Wait(timeout)
        try:
            return await aio.in_own_thread(self._wait, wait, progress)
        finally:
            wait.abandoned.set()

    def _wait(self, wait: Wait, progress: bool) -> dict[JobStatus, int]:
        # Few wait for a whole group, and every ``import taskito`` would pay.
        from taskito.client.results.progress import open_display
        from taskito.client.results.watched import WatchedJobs, follow

        if not self.ids:
            return {}
        storage = self._reader.storage
        if self._reader.end_listener is None:  # Who waits in test mode runs what is pending.
            for job in self.jobs:
                storage.await_finished(job.id, 0)
        with open_display(progress) as display:
            watched = WatchedJobs(storage, self.ids)
            wait.ride_out(lambda: follow(watched, wait, display.show))
        return self.statuses()

    async def _settled(self, listener: EndListener, wait: Wait) -> None:
        """Return when all members have completed, one of them has not, or the wait is over."""
        ids, at, size = self.ids, 0, 1
        while at < len(ids):
            page = ids[at : at + size]
            get = partial(self._reader.storage.get, page)
            known = {job.id: job for job in await aio.in_own_thread(wait.ride_out, get)}
            size = min(2 * size, _PAGE)
            for job_id in page:
                job = known.get(job_id)
                if job is not None and not job.status.finished:
                    job = await listener.ended(job_id, wait)
                    size = 1
                if job is None or job.status is not JobStatus.COMPLETE:
                    return
                at += 1
                if size == 1:
                    break

    def _results(self, wait: Wait) -> list[Any]:
        return wait.ride_out(partial(self._results_now, wait))

    def _results_now(self, wait: Wait) -> list[Any]:
        values: dict[str, Any] = {}
        for page in self._pages():
            for job_id, job in page.items():
                values[job_id] = value_of(self._reader, await_finished(self._reader, job_id, job, wait))
        return cast(list[Any], filled(self._shape, values))

    def _pages(self) -> Iterator[dict[str, Job | None]]:
        """The members as they are now, in order; None: stored no more."""
        ids = self.ids
        for at in range(0, len(ids), _PAGE):
            page = ids[at : at + _PAGE]
            known = {job.id: job for job in self._reader.storage.get(page)}
            yield {job_id: known.get(job_id) for job_id in page}

    def __iter__(self) -> Iterator[JobResult[Any]]:
        """The handles of all members, in order, as ``jobs``."""
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<GroupResult {self.id} of {len(self)} jobs>" if self.id else "<GroupResult of 0 jobs>"


GroupResult.__module__ = "taskito"
