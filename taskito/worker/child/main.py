"""A child: runs the jobs it is given, one after another in its main thread, or some beside each other.

A second thread answers the supervisor meanwhile: see ``control``. The slot table shows what is running;
nothing a task does to this process may reach beyond its job.
"""

from __future__ import annotations

import errno
import faulthandler
import logging
import os
import random
import signal
import socket
from collections.abc import Sequence
from functools import partial
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from setproctitle import setproctitle

from taskito.config.logging import configure
from taskito.config.output import TASK_PATIENCE, protect
from taskito.running_job.job_log import Fields
from taskito.worker.child import bootstrap
from taskito.worker.child.concurrent_jobs import ConcurrentJobs
from taskito.worker.child.control import Control
from taskito.worker.child.exit import as_a_copy, at_once, in_good_order
from taskito.worker.child.failures import boot_failure
from taskito.worker.child.forks import ForkGuard
from taskito.worker.child.inbox import Inbox, SupervisorGone
from taskito.worker.child.interrupts import Interrupts
from taskito.worker.child.process_state import ProcessState
from taskito.worker.child.runner import NOT_ITS_PROCESS, Runner
from taskito.worker.ipc import platform
from taskito.worker.ipc.argv import (
    EXIT_BOOT_FAILED,
    EXIT_CHANNEL_BROKEN,
    EXIT_SUPERVISOR_GONE,
    parse_child,
)
from taskito.worker.ipc.child_options import ChildOptions, Lifespan
from taskito.worker.ipc.failure_events import unpack_failure_event
from taskito.worker.ipc.slots import SlotTable
from taskito.worker.ipc.wire import (
    Company,
    JobMessage,
    MessageType,
    ResultKind,
    ResultMessage,
    WireError,
    pack,
    pack_hello,
    pack_note,
    pack_result,
)

if TYPE_CHECKING:
    from taskito.worker.child.app import App, LoadApp

log = logging.getLogger("taskito.worker")

#: A finished result is sent when it is this old, in seconds, even if the frame goes on.
_RESULT_AGE = 0.002
#: A child that a signal told to end waits so many seconds for DRAIN from the supervisor.
_ALONE = 1.0
#: Seconds between two checks of a child that waits to be dismissed: its other thread may have read that.
_RECHECK = 0.1
#: After so many seconds what a coroutine left running is broken into, where it blocks instead of waiting.
_LONGEST_FINISH = 3.0
#: Before a job of a task that took longer than this last time, results are sent and the title is set.
_SLOW = 0.001
#: Of the jobs of quicker tasks, the memory of one in so many is measured. A prime number: of tasks that
#: alternate in some regular way, each is measured.
_SAMPLED = 61


class Endpoints(NamedTuple):
    """What a child is connected to, and its options."""

    slot: int
    data: socket.socket
    control: socket.socket
    trace: int  #: descriptor that faulthandler writes to
    slots: SlotTable
    lifeline: int
    options: ChildOptions


class Child:
    """One child process, from its boot to its end."""

    def __init__(self, app: App, ends: Endpoints) -> None:
        self._app = app
        self._ends = ends
        self._slots, self._slot = ends.slots, ends.slot
        self._inbox = Inbox(ends.data)
        self._runner = Runner(app)
        self._interrupts = Interrupts(ends.slots, ends.slot, self._runner.interrupt)
        self._control = Control(ends.control, self._inbox, self._break_off)
        self._concurrent = ConcurrentJobs(
            self, self._runner, self._inbox, self._interrupts, ends.slots, ends.slot, ends.options
        )
        self._forks = ForkGuard(ends.slots, self._descriptors, self._concurrent.forked)
        self._state = ProcessState(self._repair_traces, self._interrupts.repair)
        self._done = 0
        self._last = (0, 0.0)  # seq and start of the last job that ended
        self._oldest = 0.0  # when the oldest result that waits was finished
        self._took: dict[str, float] = {}  # task to seconds, last time
        self._unchecked = ""  # task of the last job, if what it left was not searched for thoroughly
        self._title = ""
        # Children forked from one zygote share the state of the module's own generator.
        self._lifespan = Lifespan(ends.options, random.SystemRandom().random)

    def main(self, ready: bytes = b"") -> NoReturn:
        """Boot, run jobs until told to end, exit. Called with all signals blocked; HELLO was sent."""
        self._set_up()
        try:
            self._app.plugins.hook.taskito_child_started()
            self._runner.open_resources()
        except BaseException as exc:
            self._control.send(MessageType.FAILED, boot_failure(exc))
            at_once(EXIT_BOOT_FAILED)
        self._state.remember()
        self._control.send(MessageType.READY, ready)
        try:
            self._serve()
        except SupervisorGone:
            at_once(EXIT_SUPERVISOR_GONE)
        except (OSError, WireError) as exc:
            self._break_off(exc)
        in_good_order(self._app, self._runner)

    # ---- Host: what running jobs ask, in any thread ----

    def note(self, seq: int, note: Fields) -> None:
        if self._forks.forked:
            raise RuntimeError(NOT_ITS_PROCESS)
        self._inbox.send(pack_note(seq, note))

    def cancel_asked(self, seq: int) -> bool:
        return self._slots.cancel_seq(self._slot) == seq or self._concurrent.cancel_asked(seq)

    # ---- for jobs that run beside each other ----

    @property
    def may_begin(self) -> bool:
        return not self._inbox.draining and not self._lifespan.is_over(self._done)

    @property
    def forked(self) -> bool:
        return self._forks.forked

    def is_sampled(self, task_name: str) -> bool:
        return self._took.get(task_name, _SLOW) >= _SLOW or self._done % _SAMPLED == 0

    def show_running(self, task_name: str, jobs: int) -> None:
        self._set_title(f"{task_name} and {jobs - 1} more" if jobs > 1 else task_name)

    def after(self, task_name: str, entry: int, result: ResultMessage) -> None:
        self._done += 1
        self._slots.end(self._slot, self._done, entry)
        self._took[task_name] = result.ran
        self._keep(result)

    def send_results(self, at_once: bool) -> None:
        if at_once or monotonic() - self._oldest >= _RESULT_AGE:
            self._inbox.flush()

    # ---- boot ----

    def _set_up(self) -> None:
        """Handlers, traces, title and the control thread; then let signals in."""
        # First given up: if the app had them, faulthandler would not register again what the reset removes.
        faulthandler.disable()
        faulthandler.unregister(signal.SIGUSR1)
        bootstrap.reset_signals(caught=(signal.SIGINT, signal.SIGHUP))
        signal.signal(signal.SIGTERM, self._on_term)
        self._interrupts.install()
        self._forks.install()
        self._enable_traces()
        self._set_title("idle")
        self._control.start()
        bootstrap.unblock_signals()
        self._state.remember_signals()

    def _enable_traces(self) -> None:
        faulthandler.enable(self._ends.trace, all_threads=True)
        faulthandler.register(signal.SIGUSR1, self._ends.trace, all_threads=True, chain=False)

    def _repair_traces(self) -> bool:
        """After a job: have stacks written again, if it undid that."""
        if faulthandler.is_enabled() and bootstrap.handler_of(signal.SIGUSR1) == signal.SIG_DFL:
            return False
        faulthandler.unregister(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self._enable_traces()
        return True

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        self._inbox.drain()

    def _descriptors(self) -> tuple[int, ...]:
        ends = self._ends
        kept = self._state.descriptors()
        return (ends.control.fileno(), ends.trace, ends.lifeline, *kept, *self._inbox.descriptors())

    # ---- main thread ----

    def _serve(self) -> None:
        """Take a job, run it, and again; with nothing to take, send what is finished and wait."""
        inbox, took = self._inbox, self._took
        while not inbox.draining:
            if inbox.failure_events:
                self.run_callbacks()
            job = inbox.take()
            if job is None:
                inbox.flush()
                if self._unchecked:
                    self._put_right(self._unchecked, thorough=True)
                self._set_title("idle")
                inbox.wait()
                continue
            if job.company is not Company.ALONE:
                inbox.put_back(job)
                self._run_concurrently()
                continue
            slow = took.get(job.task_name, _SLOW) >= _SLOW
            if slow:
                inbox.flush()
                if inbox.frame_size == 1:
                    self._set_title(job.task_name)
            self._run(job, slow or self._done % _SAMPLED == 0)
            if self._lifespan.is_over(self._done):
                self._retire()
        inbox.hand_back()
        self.run_callbacks()
        if self._runner.observes_failures:
            self._await_dismissal()

    def _run_concurrently(self) -> None:
        self._concurrent.serve()
        if self._concurrent.tasks:
            self._put_right(" or ".join(sorted(self._concurrent.tasks)), thorough=True)
        if self._lifespan.is_over(self._done):
            self._retire()

    def _retire(self) -> None:
        """Ask to be replaced, begin nothing more, and hand back what still arrives, until DRAIN."""
        inbox = self._inbox
        self._control.send(MessageType.RECYCLE)
        self._set_title("idle")
        while not inbox.draining:
            inbox.hand_back()
            if inbox.failure_events:
                self.run_callbacks()
            inbox.wait()

    def _await_dismissal(self) -> None:
        """Stay for callbacks of failures that are being recorded: no other child may be left to run them."""
        inbox = self._inbox
        # A SIGTERM may have been for all processes of the worker, and DRAIN be on its way; or for us alone.
        alone_at = monotonic() + _ALONE
        while not inbox.dismissed and (self._control.told_to_drain or monotonic() < alone_at):
            inbox.linger(_RECHECK)
            self.run_callbacks()

    def run_callbacks(self) -> None:
        """Tell the app's callbacks of the failed attempts that this child was chosen to tell."""
        inbox = self._inbox
        inbox.flush()  # Results must not wait for what callbacks may take.
        while inbox.failure_events:
            self._runner.notify(unpack_failure_event(inbox.failure_events.popleft()))
            if self._forks.forked:
                at_once(0)  # A callback forked, and its copy came back here instead of exiting.

    def _run(self, job: JobMessage, sampled: bool) -> None:
        """Run one job; ``sampled``: measure its memory too, and see all that it leaves, which takes 15 µs."""
        seq = job.seq
        measured = sampled and platform.reset_peak_memory()
        self._interrupts.begin(seq)
        started = monotonic()
        self._slots.begin(self._slot, seq, started)
        kind, body = self._runner.run(job, self._interrupts.guard, self)
        ended = monotonic()
        if self._forks.forked:
            # The task forked, and its copy came back here instead of exiting. The job is not its own.
            as_a_copy(kind, body)
        # While it still counts as running: other threads may run here, and what they find broken it broke.
        peak_memory = platform.peak_memory() if measured else 0
        self._took[job.task_name] = ran = ended - started
        if sampled or ran >= _SLOW or kind is not ResultKind.RETURNED:
            self._put_right(job.task_name, thorough=True)
        elif self._state.is_touched():
            self._put_right(job.task_name, thorough=False)
        else:
            self._unchecked = job.task_name
        self._done += 1
        self._slots.end(self._slot, self._done)
        inbox = self._inbox
        self._keep(ResultMessage(seq, kind, started, ran, body, peak_memory))
        if self._runner.unfinished():
            inbox.flush()  # The job has ended, however long this takes.
            self._interrupts.bounded(partial(self._runner.finish, job.task_name), _LONGEST_FINISH)
            self._unchecked = job.task_name
        elif ended - self._oldest >= _RESULT_AGE:
            inbox.flush()

    def _keep(self, result: ResultMessage) -> None:
        """A job has ended: have its result sent with others, soon."""
        self._last = (result.seq, result.started)
        if not self._inbox.unsent:
            self._oldest = result.started + result.ran
        self._inbox.finish(pack_result(result))

    def _put_right(self, task_name: str, thorough: bool) -> None:
        """Undo what a job of this task did to the process; not ``thorough``: most of it, the rest later."""
        self._unchecked = "" if thorough else task_name
        if self._state.restore(task_name, thorough):
            # It may do so again: from now on it counts as slow.
            self._took[task_name] = max(self._took.get(task_name, _SLOW), _SLOW)

    def _set_title(self, what: str) -> None:
        if what != self._title:
            self._title = what
            setproctitle(f"taskito: child[{self._slot}] {what}")

    # ---- trouble ----

    def _break_off(self, exc: BaseException) -> NoReturn:
        """The sockets do not work any more: supervisor gone, or a task meddled with our descriptors."""
        if isinstance(exc, OSError) and exc.errno in (errno.EPIPE, errno.ECONNRESET):
            at_once(EXIT_SUPERVISOR_GONE)
        seq, started = self._last
        if seq and self._inbox.unsent and not self._slots.read(self._slot).running:
            # The last job did it: let it be found as the one this process died of.
            self._slots.end(self._slot, self._done - 1)
            self._slots.begin(self._slot, seq, started)
        at_once(EXIT_CHANNEL_BROKEN, f"taskito: cannot talk to the supervisor any more: {exc!r}\n")


def main(argv: Sequence[str], load: LoadApp) -> NoReturn:
    """A spawned child: a fresh interpreter, which imports the app itself. Signals are blocked so far."""
    arguments = parse_child(argv)
    for fd in (arguments.data, arguments.control, arguments.trace, arguments.slots, arguments.lifeline):
        os.set_inheritable(fd, False)
    # While the app is imported there is nothing to hand back: SIGTERM may simply end it.
    bootstrap.reset_signals(caught=(signal.SIGINT, signal.SIGHUP))
    faulthandler.register(signal.SIGUSR1, arguments.trace, all_threads=True, chain=False)
    bootstrap.unblock_signals()
    os.setpgid(0, 0)
    platform.die_with_parent()
    if os.getppid() != arguments.supervisor:
        at_once(EXIT_SUPERVISOR_GONE)
    platform.keep_environment_readable()
    control = socket.socket(fileno=arguments.control)
    control.setblocking(True)
    control.sendall(pack_hello(os.getpid()))
    try:
        protect(TASK_PATIENCE)
        configure(arguments.options.log_level, arguments.options.log_format)
        app, report = bootstrap.import_app(arguments.app, load)
    except BaseException as exc:
        control.sendall(pack(MessageType.FAILED, boot_failure(exc)))
        at_once(EXIT_BOOT_FAILED)
    bootstrap.write_lines()
    bootstrap.block_signals()
    ends = Endpoints(
        slot=arguments.slot,
        data=socket.socket(fileno=arguments.data),
        control=control,
        trace=arguments.trace,
        slots=SlotTable(arguments.slots, arguments.slot_count, arguments.options.jobs_at_once),
        lifeline=arguments.lifeline,
        options=arguments.options,
    )
    Child(app, ends).main(report.to_json())
