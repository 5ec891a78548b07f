"""What the loop and a pool ask of each other; a pool runs jobs in child processes or in threads.

A pool offers *executors* that run one job at a time each, or some beside each other. It reports always on
the loop's thread. Nothing in it blocks. Times are ``time.monotonic()`` seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from taskito.worker.dispatch.inflight import Exit, InFlight
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.failure_events import FailureEvent
from taskito.worker.ipc.wire import ResultMessage


class ExecutorEvents(Protocol):
    """What a pool tells of its executors, each by the id that it was opened with."""

    def opened(self, executor_id: int) -> None:
        """A new executor takes jobs."""
        ...

    def results(self, executor_id: int, results: Sequence[ResultMessage]) -> None: ...

    def returned(self, executor_id: int, seqs: Sequence[int]) -> None: ...

    def note(self, executor_id: int, seq: int, fields: list[Any]) -> None:
        """Progress or a log entry of a job that the executor is inside of, or was; its result comes later."""
        ...

    def closing(self, executor_id: int) -> None:
        """Give this executor nothing more; it ends by itself."""
        ...

    def lost(self, executor_id: int, how: Exit) -> None:
        """The executor is gone, and everything it had to report was reported before."""
        ...


class PoolEvents(Protocol):
    """What a pool tells the loop."""

    def app_ready(self, manifest: AppManifest, executors: int) -> None:
        """The app is imported, and so many executors will open. Comes once, before the first of them."""
        ...

    def app_failed(self, message: str, traceback: str | None) -> None:
        """The app cannot be imported; nothing will run."""
        ...

    @property
    def executors(self) -> ExecutorEvents:
        """To be asked for anew with each event: another one answers once the app is ready."""
        ...


class Pool(Protocol):
    """What the loop asks of a pool."""

    def start(self) -> None:
        """Load the app, then keep the wanted number of executors open."""
        ...

    def send(self, executor_id: int, entries: Sequence[InFlight]) -> None:
        """Hand jobs to an executor, to run in this order after what it has."""
        ...

    def recall(self, executor_id: int) -> None:
        """Ask an executor for what it has not begun; ``ExecutorEvents.returned`` answers."""
        ...

    def running(self, executor_id: int) -> Mapping[int, float]:
        """The seqs of the jobs that the executor is inside of now, each with its start."""
        ...

    def stop_overdue(self, executor_id: int, seq: int) -> None:
        """End this job, whose limit has passed. ``lost`` follows unless it ended in time.

        ``seq`` 0: end the executor, which begins none of its jobs.
        """
        ...

    def revoke(self, executor_ids: Iterable[int]) -> None:
        """These executors run jobs that are no longer ours: end them, whatever it costs."""
        ...

    def cancel(self, executor_id: int, seq: int, force: bool) -> None:
        """Tell this job that it was asked to cancel; ``force``: raise JobCancelled in it, if possible.

        One that goes on all the same is told again, and then ended with its process.
        """
        ...

    def interrupt(self) -> None:
        """Raise WorkerShutdown in every running job."""
        ...

    def drain(self) -> None:
        """Open no more executors; each executor ends when its current job has, and hands back the rest."""
        ...

    def dismiss(self) -> None:
        """While draining: every outcome is recorded, so there is nothing more to ``notify`` of."""
        ...

    def kill(self) -> None:
        """End every executor now; their deaths are ours."""
        ...

    def dump_stacks(self) -> None:
        """Have every executor's stack written to the log, soon."""
        ...

    def notify(self, events: Sequence[FailureEvent]) -> None:
        """Have the app's callbacks told of these failures where the app's code may run, each at most once."""
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
        """True once every executor has ended."""
        ...

    def close(self) -> None:
        """Give back what is left. Called last, after ``empty`` or ``kill``."""
        ...
