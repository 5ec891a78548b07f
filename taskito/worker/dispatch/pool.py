"""The seam between the loop and whatever runs the jobs: child processes or threads.

A pool offers *lanes* that run one job at a time each; it reports through PoolEvents, always on
the loop's thread. Nothing in it blocks. Times are ``time.monotonic()`` seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from taskito.running_job.job_log import Fields
from taskito.worker.dispatch.inflight import Death, Entry
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.failure_events import Notice
from taskito.worker.ipc.wire import ResultMessage


class PoolEvents(Protocol):
    """What a pool tells the loop."""

    def app_ready(self, report: AppManifest, lanes: int) -> None:
        """The app is imported, and ``lanes`` lanes will open; comes once, before the first of them."""
        ...

    def app_failed(self, message: str, traceback: str | None) -> None:
        """The app cannot be imported; nothing will run."""
        ...

    def lane_opened(self, lane_id: int, limit: int | None) -> None:
        """A new lane takes jobs, ``limit`` of them in all (None: without bound)."""
        ...

    def lane_results(self, lane_id: int, results: Sequence[ResultMessage]) -> None: ...

    def lane_returned(self, lane_id: int, seqs: Sequence[int]) -> None: ...

    def lane_said(self, lane_id: int, seq: int, note: Fields) -> None:
        """A job that this lane is inside of, or was, said something; its result comes later."""
        ...

    def lane_closing(self, lane_id: int) -> None:
        """Give this lane nothing more; it ends by itself."""
        ...

    def lane_lost(self, lane_id: int, death: Death) -> None:
        """The lane is gone, and everything it had to say was reported before."""
        ...


class Pool(Protocol):
    """What the loop asks of a pool."""

    def start(self) -> None:
        """Load the app, then keep the wanted number of lanes open."""
        ...

    def send(self, lane_id: int, entries: Sequence[Entry]) -> None:
        """Hand jobs to a lane, to run in this order after what it has."""
        ...

    def recall(self, lane_id: int) -> None:
        """Ask a lane for what it has not begun; ``lane_returned`` answers."""
        ...

    def running(self, lane_id: int) -> tuple[int, float]:
        """(seq, start) of the job the lane is inside of now; seq 0: none."""
        ...

    def stop_overdue(self, lane_id: int, seq: int) -> None:
        """End this job, whose limit has passed. ``lane_lost`` follows, unless it ended in time after all."""
        ...

    def disown(self, lane_ids: Iterable[int]) -> None:
        """These lanes run jobs that are no longer ours: end them, whatever it costs."""
        ...

    def cancel(self, lane_id: int, seq: int, force: bool) -> None:
        """Let this job know that it was asked to cancel; ``force``: raise JobCancelled in it, if possible."""
        ...

    def interrupt(self) -> None:
        """Raise WorkerShutdown in every running job."""
        ...

    def drain(self) -> None:
        """Open no more lanes; each lane ends when its current job has, and hands back the rest."""
        ...

    def dismiss(self) -> None:
        """While draining: every outcome is recorded, so there is nothing more to ``notify`` of."""
        ...

    def kill(self) -> None:
        """End every lane now; their deaths are ours."""
        ...

    def dump_stacks(self) -> None:
        """Have every lane's stack written to the log, soon."""
        ...

    def worn_out(self, lane_id: int) -> None:
        """This lane has ended all the jobs it may have: open another, then end it."""
        ...

    def notify(self, notices: Sequence[Notice]) -> None:
        """Have the app's hooks told of these failures where its code may run, each at most once."""
        ...

    def child_event(self) -> None:
        """SIGCHLD came."""
        ...

    def tick(self, now: float) -> None:
        """Do what is due."""
        ...

    def next_deadline(self) -> float:
        """When ``tick`` has something to do next; infinity: never as things stand."""
        ...

    def empty(self) -> bool:
        """True once every lane has ended."""
        ...

    def close(self) -> None:
        """Give back what is left. Called last, after ``empty`` or ``kill``."""
        ...
