"""The jobs of a child that run beside each other: coroutines in one event loop, others in threads.

The main thread runs the loop, from the first of them until none is left; then the child is quiet, as it is
between two jobs that run alone. One job is begun at each step of the loop, so that what waits behind one that
blocks the loop has not begun, and can be asked back.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from taskito.running_job import job_context
from taskito.running_job.job_context import JobContext
from taskito.worker.child.exit import as_a_copy, at_once
from taskito.worker.child.inbox import Inbox
from taskito.worker.child.interrupts import REPEAT, Interrupts, overran, requested
from taskito.worker.child.runner import Attempt, Ended, Host, Runner
from taskito.worker.ipc import platform
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.ipc.slots import SlotTable
from taskito.worker.ipc.wire import Company, JobMessage, ResultMessage

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from taskito.worker.child.coroutines import Coroutines, InterruptibleCoroutine

#: After so many seconds what an ended job left running is broken into, where it blocks instead of waiting.
_LONGEST_FINISH = 3.0
_NEVER = float("inf")


class SharedHost(Host, Protocol):
    """The child, as far as jobs that run beside each other use it."""

    @property
    def may_begin(self) -> bool:
        """May another job be begun?"""

    @property
    def forked(self) -> bool:
        """Is this a process that a task forked?"""

    def is_sampled(self, task_name: str) -> bool:
        """Is this job to be measured: it is slow, or it is one of a sample?"""

    def show_running(self, task_name: str, jobs: int) -> None:
        """So many jobs run, and the oldest is of this task."""

    def after(self, task_name: str, entry: int, result: ResultMessage) -> None:
        """It has ended: count it, and keep its result to be sent."""

    def send_results(self, at_once: bool) -> None:
        """Send what has ended: now, or what is old enough."""

    def run_callbacks(self) -> None: ...


class _Run:
    """One job that the child is inside of."""

    __slots__ = ("active", "attempt", "entry", "job", "measured", "soft_at", "started")

    def __init__(self, job: JobMessage, entry: int, started: float, measured: bool) -> None:
        self.job = job
        self.entry = entry
        self.started = started
        self.measured = measured  #: its memory can be told, as long as it is the only one
        self.attempt: Attempt | None = None
        self.active: InterruptibleCoroutine | None = None  #: its coroutine; None: it runs in a thread
        self.soft_at = _NEVER  #: when its soft limit is raised in it next


class ConcurrentJobs:
    """All of them. Main thread only, but for the tasks of jobs in threads."""

    def __init__(
        self,
        child: SharedHost,
        runner: Runner,
        inbox: Inbox,
        interrupts: Interrupts,
        slots: SlotTable,
        slot: int,
        options: ChildOptions,
    ) -> None:
        self._child = child
        self._runner = runner
        self._inbox = inbox
        self._slots, self._slot = slots, slot
        self._most = {Company.COROUTINES: options.async_concurrency, Company.THREADS: options.threads}
        self._counts = dict.fromkeys(self._most, 0)
        self._entries = list(range(options.jobs_at_once))
        self._running: dict[int, _Run] = {}
        self._finishing: dict[object, tuple[JobContext, list[float]]] = {}
        self._coroutines: Coroutines
        self._threads: ThreadPoolExecutor | None = None
        self._pumping = False
        self._quiet = True
        self._trouble: BaseException | None = None
        interrupts.on_alarm, interrupts.on_request = self._on_alarm, self._on_request
        self._repair = interrupts.repair
        self._outside = Context()  #: as when the child is quiet: no job is current
        self.tasks: set[str] = set()  #: names of what has run since the child was quiet

    def serve(self) -> None:
        """Run what waits in the inbox, and what comes meanwhile, until nothing runs.

        Raises as ``Inbox.wait`` does.
        """
        self._coroutines = self._runner.coroutines  # The main thread's: others ask for it, too.
        loop = self._coroutines.loop
        inbox = self._inbox
        self._quiet, self._pumping, self._trouble = False, True, None
        self.tasks = set()
        self._outside = copy_context()
        readers = ((inbox.data, self._read), (inbox.alarm, self._drain))
        for fd, read in readers:
            loop.add_reader(fd, self._guarded, read)
        loop.call_soon(self._guarded, self._pump, context=self._outside)
        while not self._quiet and self._trouble is None:
            # Again if a task has stopped the loop, or raised what ends one.
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue
            if self._child.forked:
                at_once(1, "taskito: a task forked, and its copy came back to the event loop of other jobs\n")
        for fd, _ in readers:
            loop.remove_reader(fd)
        self._coroutines.replace()
        if self._trouble is not None:
            raise self._trouble

    def cancel_asked(self, seq: int) -> bool:
        """Was this job asked to cancel? Any thread may ask."""
        run = self._running.get(seq)
        return run is not None and self._slots.cancel_seq(self._slot, run.entry) == seq

    def forked(self) -> None:
        """In a process that was just forked: only the job that did it goes on, if it was alone."""
        mine = job_context.current()
        others = [
            run for run in self._running.values() if run.attempt is None or run.attempt.context is not mine
        ]
        if others and not self._quiet:
            for run in others:
                if run.active is not None:
                    run.active.abandon()
            self._coroutines.loop.stop()

    # ---- in the loop ----

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        """Nothing of ours may end in the loop's handler of exceptions."""
        try:
            if not self._child.forked:
                step(*arguments)
        except BaseException as exc:
            self._trouble = exc
            self._coroutines.loop.stop()

    def _read(self) -> None:
        self._inbox.receive()
        self._pump_soon()

    def _drain(self) -> None:
        # Readable for ever from now on.
        self._coroutines.loop.remove_reader(self._inbox.alarm)
        self._inbox.is_alarm(self._inbox.alarm)
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._coroutines.loop.call_soon(self._guarded, self._pump, context=self._outside)

    def _pump(self) -> None:
        """Begin one job, if one waits and there is room; else send what has ended, and stop if all has."""
        self._pumping = False
        if self._inbox.failure_events:
            self._child.run_callbacks()
        if (job := self._next()) is not None:
            self._begin(job)
            self._pump_soon()
        self._child.send_results(at_once=job is None)
        if job is None and self._running:
            self._child.show_running(next(iter(self._running.values())).job.task_name, len(self._running))
        if job is None and not self._running and not self._finishing:
            self._quiet = True
            self._coroutines.loop.stop()

    def _next(self) -> JobMessage | None:
        first = self._inbox.first()
        if first is None or not self._has_room(first):
            return None
        job = self._inbox.take()
        if job is not None and not self._has_room(job):
            self._inbox.put_back(job)  # The other thread took the first one.
            return None
        return job

    def _has_room(self, job: JobMessage) -> bool:
        if job.company is Company.ALONE or not self._child.may_begin or self._coroutines.given_up:
            return False
        return bool(self._entries) and self._counts[job.company] < self._most[job.company]

    def _begin(self, job: JobMessage) -> None:
        self.tasks.add(job.task_name)
        for run in self._running.values():
            run.measured = False
        sampled = self._child.is_sampled(job.task_name)
        if sampled:
            self._child.send_results(at_once=True)
        measured = sampled and not self._running and platform.reset_peak_memory()
        entry = self._entries.pop()
        self._running[job.seq] = run = _Run(job, entry, monotonic(), measured)
        self._counts[job.company] += 1
        self._slots.begin(self._slot, job.seq, run.started, entry)
        if job.company is Company.THREADS:
            self._begin_thread(run)
        else:
            self._begin_coroutine(run)

    def _begin_coroutine(self, run: _Run) -> None:
        attempt = self._runner.prepare(run.job, self._child, wait=False)
        if not isinstance(attempt, Attempt):
            self._ended(run, attempt)
            return
        run.attempt = attempt
        coroutine = self._runner.coroutine(attempt)
        run.active = active = self._coroutines.start(coroutine, attempt.isolated)
        if (deadline := attempt.context.soft_deadline) is not None:
            run.soft_at = deadline
            self._arm()
        assert active.task is not None
        active.task.add_done_callback(
            lambda _: self._guarded_end(run, lambda: self._runner.conclude(attempt, active.result)),
            context=self._outside,
        )

    def _begin_thread(self, run: _Run) -> None:
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor  # Only for those who use it.

            most = self._most[Company.THREADS]
            self._threads = ThreadPoolExecutor(most, thread_name_prefix="taskito-job")
        loop = self._coroutines.loop
        future = loop.run_in_executor(self._threads, self._run_in_thread, run.job)
        future.add_done_callback(lambda done: self._guarded_end(run, done.result), context=self._outside)

    def _run_in_thread(self, job: JobMessage) -> Ended:
        pid = os.getpid()
        kind, body = self._runner.run(job, host=self._child)
        if os.getpid() != pid:
            as_a_copy(kind, body)  # The task forked, and its copy came back here instead of exiting.
        return kind, body

    def _guarded_end(self, run: _Run, end: Callable[[], Ended]) -> None:
        try:
            ended = end()
            if self._child.forked:
                as_a_copy(*ended)
            self._ended(run, ended)
        except BaseException as exc:
            self._trouble = exc
            self._coroutines.loop.stop()

    def _ended(self, run: _Run, ended: Ended) -> None:
        ran = monotonic() - run.started
        peak_memory = platform.peak_memory() if run.measured else 0
        job = run.job
        kind, body = ended
        result = ResultMessage(job.seq, kind, run.started, ran, body, peak_memory)
        self._child.after(job.task_name, run.entry, result)
        del self._running[job.seq]
        self._counts[job.company] -= 1
        self._entries.append(run.entry)
        if run.soft_at != _NEVER:
            self._arm()
        if self._repair():  # All else has to wait until nobody uses it.
            self._arm()
        if run.active is not None and run.attempt is not None:
            self._finish(job.task_name, run.attempt.context)
        self._pump_soon()

    # ---- what ended jobs leave ----

    def _finish(self, task_name: str, context: JobContext) -> None:
        coroutines = self._coroutines
        if not coroutines.left_by(context):
            return
        ending = coroutines.loop.create_task(
            coroutines.finish_left(task_name, partial(coroutines.left_by, context)),
            context=self._outside.copy(),
        )
        self._finishing[ending] = context, [monotonic() + _LONGEST_FINISH]
        self._arm()
        ending.add_done_callback(partial(self._guarded, self._finished))

    def _finished(self, ending: object) -> None:
        del self._finishing[ending]
        self._arm()
        self._pump_soon()

    # ---- signals ----

    def _arm(self) -> None:
        """Have SIGALRM come when the next limit is over."""
        due = min((run.soft_at for run in self._running.values()), default=_NEVER)
        due = min([due, *(at for _, [at] in self._finishing.values())])
        signal.setitimer(signal.ITIMER_REAL, 0 if due == _NEVER else max(0.001, due - monotonic()))

    def _on_alarm(self, frame: FrameType | None) -> None:
        """A soft limit is over, or what an ended job left running takes too long."""
        now, here = monotonic(), None
        for run in list(self._running.values()):
            if run.soft_at <= now:
                run.soft_at = now + REPEAT
                here = self._deliver(run, overran(), frame) or here
        for context, at in list(self._finishing.values()):
            if at[0] <= now:
                at[0] = now + REPEAT
                here = overran() if job_context.current() is context else here
        if self._running or self._finishing:
            self._arm()
        if here is not None:
            raise here

    def _on_request(self, frame: FrameType | None) -> None:
        """Jobs are to be broken off."""
        here = None
        for seq, run in list(self._running.items()):
            if self._slots.interrupt_seq(self._slot, run.entry) == seq:
                self._slots.interrupt_taken(self._slot, run.entry)
                exc = requested(self._slots.cancel_seq(self._slot, run.entry) == seq)
                here = self._deliver(run, exc, frame) or here
        if here is not None:
            raise here

    def _deliver(self, run: _Run, exc: BaseException, frame: FrameType | None) -> BaseException | None:
        """Have it raised in the job; itself, if that is to be done right here. In a thread it cannot be."""
        if run.active is None or self._coroutines.interrupt_one(run.active, exc, frame):
            return None
        return exc
