"""A child: runs the jobs it is given, one after another, in its main thread.

A second thread, which no signal reaches, answers the supervisor while the main thread is inside a
job. The slot table says what is running; nothing a task does to this process may reach beyond its job.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Sequence
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from setproctitle import setproctitle

from taskito.config.logging import configure
from taskito.running_job.job_log import Fields
from taskito.worker.child import bootstrap
from taskito.worker.child.exit import as_a_copy, at_once, in_good_order
from taskito.worker.child.failures import boot_failure
from taskito.worker.child.inbox import Inbox, SupervisorGone
from taskito.worker.child.interrupts import Interrupts
from taskito.worker.child.runner import Runner
from taskito.worker.ipc import platform
from taskito.worker.ipc.argv import (
    EXIT_BOOT_FAILED,
    EXIT_CHANNEL_BROKEN,
    EXIT_SUPERVISOR_GONE,
    parse_child,
)
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.ipc.failure_events import unpack_failure_event
from taskito.worker.ipc.slots import SlotTable
from taskito.worker.ipc.wire import (
    JobMessage,
    MessageParser,
    MessageType,
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
#: A child that a signal told to end waits so many seconds to hear the same from the supervisor.
_ALONE = 1.0
#: Seconds after which a child that waits to be dismissed looks whether its other thread has read that.
_GLANCE = 0.1
#: Before a job of a task that took longer than this last time, results are sent and the title is set.
_SLOW = 0.001
#: Of the jobs of quicker tasks, the memory of every so many is measured. A prime number: of tasks that
#: take turns in some regular way, each has its turn.
_SAMPLED = 61
#: Signals that do something in a child, or nothing, that they would not do elsewhere.
_OURS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR2)


class Endpoints(NamedTuple):
    """What a child is connected to, and was told."""

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
        self._control_writing = threading.Lock()
        self._done = 0
        self._last = (0, 0.0)  # seq and start of the last job that ended
        self._oldest = 0.0  # when the oldest result that waits was finished
        self._took: dict[str, float] = {}  # task to seconds, last time
        self._told_to_drain = False  # by the supervisor, and not by a signal
        self._alien = False  # a task forked and this is the new process
        self._title = ""
        self._handlers: dict[signal.Signals, object] = {}

    def main(self, ready: bytes = b"") -> NoReturn:
        """Boot, run jobs until told to end, exit. Called with all signals blocked; HELLO was sent."""
        self._stand()
        try:
            self._app.plugins.hook.taskito_child_started()
        except BaseException as exc:
            self.say(MessageType.FAILED, boot_failure(exc))
            at_once(EXIT_BOOT_FAILED)
        self.say(MessageType.READY, ready)
        try:
            self._serve()
        except SupervisorGone:
            at_once(EXIT_SUPERVISOR_GONE)
        except (OSError, WireError) as exc:
            self._break_off(exc)
        in_good_order(self._app, self._runner)

    def say(self, kind: MessageType, body: bytes = b"") -> None:
        """One message on the control socket."""
        with self._control_writing:
            self._ends.control.sendall(pack(kind, body))

    # ---- Host: what running jobs ask, in any thread ----

    def note(self, seq: int, note: Fields) -> None:
        if self._alien:
            raise RuntimeError("only the process that runs a job can speak for it, not one that it forked")
        self._inbox.say(pack_note(seq, note))

    def cancel_asked(self, seq: int) -> bool:
        return self._slots.cancel_seq(self._slot) == seq

    # ---- boot ----

    def _stand(self) -> None:
        """Handlers, traces, title and the control thread; then let signals in."""
        # First given up: if the app had them, they would believe to stand after the reset took them away.
        faulthandler.disable()
        faulthandler.unregister(signal.SIGUSR1)
        bootstrap.reset_signals(deaf_to=(signal.SIGINT, signal.SIGHUP))
        signal.signal(signal.SIGTERM, self._on_term)
        self._interrupts.install()
        self._handlers = {signum: bootstrap.handler_of(signum) for signum in _OURS}
        faulthandler.enable(self._ends.trace, all_threads=True)
        faulthandler.register(signal.SIGUSR1, self._ends.trace, all_threads=True, chain=False)
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._forked
        )
        self._set_title("idle")
        # Started while every signal is blocked, so that none is ever delivered to it.
        threading.Thread(target=self._answer, name="taskito-control", daemon=True).start()
        bootstrap.unblock_signals()

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        self._inbox.drain()

    def _before_fork(self) -> None:
        """Keep signals pending across a task's fork: one to the new process must not meet our handlers."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)

    def _after_fork(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _forked(self) -> None:
        """In a process that a task forked: be an ordinary Python process and hold nothing of ours."""
        if not self._alien:
            self._alien = True
            self._become_ordinary()
        self._after_fork()

    def _become_ordinary(self) -> None:
        for signum, handler in self._handlers.items():
            # Those that the task has set itself are its own to inherit.
            if bootstrap.handler_of(signum) is handler:
                default = signal.default_int_handler if signum is signal.SIGINT else signal.SIG_DFL
                signal.signal(signum, default)
        faulthandler.unregister(signal.SIGUSR1)
        faulthandler.disable()
        ends = self._ends
        for fd in (ends.control.fileno(), ends.trace, ends.lifeline, *self._inbox.descriptors()):
            with contextlib.suppress(OSError):
                os.close(fd)
        with contextlib.suppress(OSError):
            ends.slots.close()

    # ---- main thread ----

    def _serve(self) -> None:
        """Take a job, run it, and again; with nothing to take, send what is finished and wait."""
        inbox, took = self._inbox, self._took
        while not inbox.draining:
            if inbox.failure_events:
                self._run_hooks()
            job = inbox.take()
            if job is None:
                inbox.flush()
                self._set_title("idle")
                inbox.wait()
                continue
            slow = took.get(job.task_name, _SLOW) >= _SLOW
            if slow:
                inbox.flush()
                if inbox.frame_size == 1:
                    self._set_title(job.task_name)
            self._run(job, slow or self._done % _SAMPLED == 0)
        inbox.hand_back()
        self._run_hooks()
        if self._runner.observes_failures:
            self._await_dismissal()

    def _await_dismissal(self) -> None:
        """Stay for the hooks of failures that are being recorded, which no other child may be left to run."""
        inbox = self._inbox
        # A SIGTERM may have been for all processes of the worker, and DRAIN be on its way; or for us alone.
        alone_at = monotonic() + _ALONE
        while not inbox.dismissed and (self._told_to_drain or monotonic() < alone_at):
            inbox.linger(_GLANCE)
            self._run_hooks()

    def _run_hooks(self) -> None:
        """Tell the app's hooks of the failed attempts that this child was chosen to tell."""
        inbox = self._inbox
        inbox.flush()  # Results must not wait for what hooks may take.
        while inbox.failure_events:
            self._runner.notify(unpack_failure_event(inbox.failure_events.popleft()))
            if self._alien:
                at_once(0)  # A hook forked, and its copy came back here instead of exiting.

    def _run(self, job: JobMessage, measured: bool) -> None:
        """Run one job; ``measured``: its memory too, which takes about 15 µs."""
        seq = job.seq
        measured = measured and platform.reset_peak_memory()
        self._interrupts.begin(seq)
        started = monotonic()
        self._slots.begin(self._slot, seq, started)
        kind, body = self._runner.run(job, self._interrupts.guard, self)
        ended = monotonic()
        if self._alien:
            # The task forked, and its copy came back here instead of exiting. The job is not its own.
            as_a_copy(kind, body)
        # While it still counts as running: other threads get a turn here, and what they find broken it broke.
        peak_memory = platform.peak_memory() if measured else 0
        self._done += 1
        self._slots.end(self._slot, self._done)
        self._interrupts.repair()
        self._last = (seq, started)
        self._took[job.task_name] = ran = ended - started
        inbox = self._inbox
        if not inbox.unsent:
            self._oldest = ended
        inbox.finish(pack_result(ResultMessage(seq, kind, started, ran, body, peak_memory)))
        if ended - self._oldest >= _RESULT_AGE:
            inbox.flush()

    def _set_title(self, what: str) -> None:
        if what != self._title:
            self._title = what
            setproctitle(f"taskito: child[{self._slot}] {what}")

    # ---- control thread ----

    def _answer(self) -> None:
        """Heed the control socket and the alarm until the process ends."""
        control, inbox = self._ends.control, self._inbox
        parser = MessageParser()
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(inbox.alarm, select.POLLIN)
        try:
            while True:
                for fd, _ in poll.poll():
                    if inbox.rings(fd):
                        poll.unregister(fd)
                        inbox.hand_back()
                        continue
                    data = control.recv(4096)
                    if not data:
                        raise SupervisorGone
                    for kind, _body in parser.feed(data):
                        self._heed(kind)
        except SupervisorGone:
            at_once(EXIT_SUPERVISOR_GONE)
        except BaseException as exc:
            self._break_off(exc)

    def _heed(self, kind: MessageType) -> None:
        match kind:
            case MessageType.RECALL:
                self._inbox.hand_back()
            case MessageType.DRAIN:
                self._told_to_drain = True
                self._inbox.drain()
            case _:
                raise WireError(f"an unexpected {kind.name} on the control socket")

    # ---- trouble ----

    def _break_off(self, exc: BaseException) -> NoReturn:
        """The sockets do not work any more: supervisor gone, or a task meddled with our descriptors."""
        if isinstance(exc, OSError) and exc.errno in (errno.EPIPE, errno.ECONNRESET):
            at_once(EXIT_SUPERVISOR_GONE)
        seq, started = self._last
        if seq and self._inbox.unsent and not self._slots.running_seq(self._slot):
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
    bootstrap.reset_signals(deaf_to=(signal.SIGINT, signal.SIGHUP))
    bootstrap.unblock_signals()
    os.setpgid(0, 0)
    platform.die_with_parent()
    if os.getppid() != arguments.supervisor:
        at_once(EXIT_SUPERVISOR_GONE)
    control = socket.socket(fileno=arguments.control)
    control.setblocking(True)
    control.sendall(pack_hello(os.getpid()))
    try:
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
        slots=SlotTable(arguments.slots, arguments.slot_count),
        lifeline=arguments.lifeline,
        options=arguments.options,
    )
    Child(app, ends).main(report.to_json())
