"""The in-process worker: the same loop with threads instead of children.

For notebooks, tests and small apps: tasks may be defined anywhere, and nothing is imported twice. A thread
cannot be killed, so a job that overruns its timeout is failed when it returns, and never retried beside
itself; a crash takes the whole process.
"""

from __future__ import annotations

import collections
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from taskito.running_job.job_log import Fields
from taskito.worker.child.app import App
from taskito.worker.child.exit import as_a_copy, at_once
from taskito.worker.child.runner import NOT_ITS_PROCESS, Host, Runner
from taskito.worker.dispatch.inflight import NEVER, Exit, InFlight
from taskito.worker.dispatch.pool import PoolEvents
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.failure_events import MAX_WAITING, FailureEvent, log_lost
from taskito.worker.ipc.signals import SignalPipe
from taskito.worker.ipc.wire import ResultKind, ResultMessage, pack_error
from taskito.worker.store.lease import new_worker_id
from taskito.worker.supervisor.booting import LoopOptions, WorkerIdentity
from taskito.worker.supervisor.loop import WorkerLoop
from taskito.worker.supervisor.mailbox import Mailbox
from taskito_core import messages
from taskito_core.errors import ConfigError
from taskito_core.job import ErrorInfo, ErrorKind

log = logging.getLogger("taskito.worker")

_STOPPED_BY_US = ErrorInfo(ErrorKind.INTERRUPTED, "WorkerShutdown", messages.NOT_WAITED_FOR)
#: Seconds ``close`` waits for each thread whose executor has ended: it is at its last instructions.
_JOIN_TIMEOUT = 5.0


class _Ended(NamedTuple):
    """The thread of this executor is about to end."""

    executor_id: int


class _Note(NamedTuple):
    """Something for the job's log, from inside the job."""

    executor_id: int
    seq: int
    note: Fields


_Mail = tuple[int, ResultMessage] | _Ended | _Note


class _ExecutorThread:
    """The executor that one thread is, and the jobs it has not begun."""

    def __init__(self, executor_id: int, runner: Runner, mail: Mailbox[_Mail]) -> None:
        self._id = executor_id
        self._runner = runner
        self._mail = mail
        self._pid = os.getpid()
        self._waiting: collections.deque[InFlight] = collections.deque()
        self._wakeup = threading.Semaphore(0)
        self._draining = False
        self.running: dict[int, float] = {}  #: seq and start of the job it is inside of
        self.cancelled = 0  #: seq of the job that was asked to cancel last
        self.thread = threading.Thread(target=self._run, name=f"taskito-{executor_id}", daemon=True)

    def give(self, entries: Sequence[InFlight]) -> None:
        self._waiting.extend(entries)
        self._wakeup.release()

    def take_back(self) -> list[int]:
        """The seqs of what it has not begun. Popping from a deque is atomic: each job has one owner."""
        seqs: list[int] = []
        while (entry := self._next()) is not None:
            seqs.append(entry.seq)
        return seqs

    def drain(self) -> None:
        self._draining = True
        self._wakeup.release()

    def note(self, seq: int, note: Fields) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(NOT_ITS_PROCESS)
        self._mail.post(_Note(self._id, seq, note))

    def cancel_asked(self, seq: int) -> bool:
        return self.cancelled == seq

    def _next(self) -> InFlight | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _run(self) -> None:
        try:
            while not self._draining:
                self._wakeup.acquire()
                while not self._draining and (entry := self._next()) is not None:
                    self._mail.post((self._id, self._run_one(entry)))
                    if self._runner.unfinished():
                        self._runner.finish(entry.claim.task_name)
            self._runner.close()
        finally:
            self._mail.post(_Ended(self._id))

    def _run_one(self, entry: InFlight) -> ResultMessage:
        self.running = {entry.seq: time.monotonic()}
        result = run_in_thread(self._runner, entry, self)
        self.running = {}
        return result


def run_in_thread(runner: Runner, entry: InFlight, host: Host | None = None) -> ResultMessage:
    """Run one job in the calling thread. Over its timeout it is failed when it returns."""
    started, pid = time.monotonic(), os.getpid()
    kind, body = runner.run(entry.message(), host=host)
    if os.getpid() != pid:
        # The task forked, and its copy came back here instead of exiting. It is no worker.
        as_a_copy(kind, body)
    ran = time.monotonic() - started
    if entry.timeout and ran > entry.timeout:
        message = messages.RAN_TOO_LONG.format(ran=ran, timeout=entry.timeout)
        error = ErrorInfo(ErrorKind.TIMEOUT, "TaskTimeoutError", message)
        kind, body = ResultKind.TIMED_OUT, pack_error(error, retryable=True)
    return ResultMessage(entry.seq, kind, started, ran, body)


class _CallbacksThread:
    """Calls the app's callbacks for failures, one after the other, beside the jobs; started by the first."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._waiting: SimpleQueue[FailureEvent | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def notify(self, events: Sequence[FailureEvent]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="taskito-callbacks", daemon=True)
            self._thread.start()
        room = max(0, MAX_WAITING - self._waiting.qsize())
        for event in events[:room]:
            self._waiting.put(event)
        log_lost(len(events[room:]), "too many wait")

    def close(self) -> None:
        """Let it call the callbacks for what it was given, for a bounded time, since one may hang."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(_JOIN_TIMEOUT)

    def _run(self) -> None:
        pid = os.getpid()
        while (event := self._waiting.get()) is not None:
            self._runner.notify(event)
            if os.getpid() != pid:
                at_once(0)  # A callback forked, and its copy came back here instead of exiting.


class ThreadPool:
    """A fixed number of threads, each one executor."""

    def __init__(
        self,
        app: App,
        manifest: AppManifest,
        threads: int,
        selector: selectors.BaseSelector,
        events: PoolEvents,
    ) -> None:
        self._manifest = manifest
        self._events = events
        self._selector = selector
        self._mail: Mailbox[_Mail] = Mailbox()
        runner = Runner(app)
        self._callbacks = _CallbacksThread(runner)
        self._executors = {
            executor_id: _ExecutorThread(executor_id, runner, self._mail)
            for executor_id in range(1, threads + 1)
        }
        self._all = list(self._executors.values())
        selector.register(self._mail, selectors.EVENT_READ, self._take_mail)

    def start(self) -> None:
        self._events.app_ready(self._manifest, len(self._executors))
        for executor_id, executor in self._executors.items():
            executor.thread.start()
            self._events.executors.opened(executor_id)

    def send(self, executor_id: int, entries: Sequence[InFlight]) -> None:
        self._executors[executor_id].give(entries)

    def recall(self, executor_id: int) -> None:
        self._events.executors.returned(executor_id, self._executors[executor_id].take_back())

    def running(self, executor_id: int) -> dict[int, float]:
        return self._executors[executor_id].running

    def stop_overdue(self, executor_id: int, seq: int) -> None:
        """It is failed when it returns."""

    def revoke(self, executor_ids: Iterable[int]) -> None:
        for executor_id in executor_ids:
            log.warning("thread %d goes on with a job that was given to another worker", executor_id)
            self.recall(executor_id)

    def cancel(self, executor_id: int, seq: int, force: bool) -> None:
        # Threads have no signals: only a task that checks for it sees the request.
        self._executors[executor_id].cancelled = seq

    def interrupt(self) -> None:
        """Threads have no signals."""

    def drain(self) -> None:
        for executor_id, executor in self._executors.items():
            self._events.executors.closing(executor_id)
            self.recall(executor_id)
            executor.drain()

    def dismiss(self) -> None:
        """The rest of the failure events is handed to the callbacks when the pool is closed."""

    def kill(self) -> None:
        for executor_id, executor in list(self._executors.items()):
            log.error("thread %d does not end; its job goes back while it still runs here", executor_id)
            self._lose(executor_id, Exit(_STOPPED_BY_US, executor.running, 0, ours=True))

    def dump_stacks(self) -> None:
        import faulthandler

        faulthandler.dump_traceback(all_threads=True)

    def notify(self, events: Sequence[FailureEvent]) -> None:
        self._callbacks.notify(events)

    def child_event(self) -> None:
        """There are no children."""

    def tick(self, now: float) -> None:
        """Threads need no care."""

    def next_deadline(self) -> float:
        return NEVER

    def empty(self) -> bool:
        return not self._executors

    def close(self) -> None:
        for executor in self._all:
            executor.drain()
            if not executor.running and executor.thread.is_alive():
                executor.thread.join(_JOIN_TIMEOUT)
        self._callbacks.close()
        self._selector.unregister(self._mail)
        self._mail.close()

    def _take_mail(self, mask: int) -> None:
        results: dict[int, list[ResultMessage]] = {}
        ended: list[int] = []
        for item in self._mail.take():
            match item:
                case _Ended(executor_id):
                    ended.append(executor_id)
                case _Note(executor_id, seq, note):
                    self._events.executors.note(executor_id, seq, note)
                case executor_id, result:
                    results.setdefault(executor_id, []).append(result)
        for executor_id, batch in results.items():
            self._events.executors.results(executor_id, batch)
        for executor_id in ended:
            self._lose(executor_id, Exit(_STOPPED_BY_US, {}, 0, ours=True))

    def _lose(self, executor_id: int, exit_: Exit) -> None:
        if self._executors.pop(executor_id, None) is not None:
            self._events.executors.lost(executor_id, exit_)


class ThreadWorker:
    """One worker in this process: made, then run once."""

    def __init__(
        self,
        app: App,
        manifest: AppManifest,
        *,
        threads: int,
        queues: Sequence[str] | None = None,
        graceful_timeout: float,
        boot_timeout: float,
    ) -> None:
        if not app.tasks:
            raise ConfigError(
                "this queue has no tasks: decorate a function with @queue.task before running a worker"
            )
        if awaited := app.callbacks.resources.needs_loop():
            raise ConfigError(
                f"{', '.join(awaited)} must run in the event loop of the jobs, and each thread has its own: "
                "make it a plain function, or run the jobs in child processes"
            )
        self._runner = Runner(app)
        names = tuple(queues) if queues else None
        options = LoopOptions(queues=names, graceful_timeout=graceful_timeout, boot_timeout=boot_timeout)
        self._selector = selectors.DefaultSelector()
        # No lifeline: this process may live on when its worker has ended, so its end would mean nothing.
        identity = WorkerIdentity(id=new_worker_id(), rename=lambda _: None)
        self._loop = WorkerLoop(
            options,
            lambda _: app.plugins,
            self._selector,
            identity,
            lambda events: ThreadPool(app, manifest, threads, self._selector, events),
        )

    def request_shutdown(self) -> None:
        """Begin to drain, or if ``run`` is still to come, do so at its beginning. From any thread."""
        self._loop.request_shutdown()

    def run(self) -> None:
        """Run until told to stop and drained.

        In the main thread SIGINT and SIGTERM drain it, as they do ``taskito worker``; elsewhere only
        ``request_shutdown`` does. Raises ConfigError or StorageError if it cannot start, and
        StorageUnavailable if at the end the store did not take what was done.
        """
        # Of this process, not of each thread: a model is not loaded several times into one memory.
        self._runner.open_resources()
        try:
            with self._selector:
                self._run_loop()
        finally:
            self._runner.close_resources()
        if self._loop.failure is not None:
            raise self._loop.failure

    def _run_loop(self) -> None:
        if threading.current_thread() is threading.main_thread():
            with SignalPipe((signal.SIGINT, signal.SIGTERM)) as pipe:
                self._loop.run(pipe)
        else:
            self._loop.run()
