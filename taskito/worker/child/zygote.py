"""The zygote: imports the app once and forks children from it on request.

It has one thread, runs no job and holds no connection. It ends when the supervisor closes the channel,
and the kernel ends it when the supervisor dies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import gc
import logging
import os
import signal
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from setproctitle import setproctitle

from taskito.config.logging import configure
from taskito.config.output import TASK_PATIENCE, protect
from taskito.worker.child import bootstrap, native_threads
from taskito.worker.child.exit import after_exit_functions, at_once
from taskito.worker.child.failures import boot_failure
from taskito.worker.child.main import Child, Endpoints
from taskito.worker.ipc import platform
from taskito.worker.ipc.argv import (
    EXIT_BOOT_FAILED,
    EXIT_SUPERVISOR_GONE,
    ZygoteArguments,
    parse_zygote,
)
from taskito.worker.ipc.slots import SlotTable
from taskito.worker.ipc.wire import (
    MessageParser,
    MessageType,
    pack,
    pack_hello,
    pack_slot_pid,
    unpack_slot_pid,
)

if TYPE_CHECKING:
    from taskito.worker.child.app import App, LoadApp

log = logging.getLogger("taskito.worker")

#: Data socket, control socket, trace file: what comes with every FORK.
_DESCRIPTORS = 3
#: Seconds a new child waits to become the supervisor's.
_ADOPTION = 5.0
#: Without it, received descriptors would be inherited by what the app starts.
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Zygote:
    """Forks on request, until the channel ends."""

    def __init__(
        self,
        app: App,
        arguments: ZygoteArguments,
        channel: socket.socket,
        slots: SlotTable,
        unshareable: Mapping[int, str],
    ) -> None:
        self._app = app
        self._arguments = arguments
        self._channel = channel
        self._slots = slots
        self._unshareable = unshareable
        self._received: list[int] = []

    def serve(self) -> None:
        """Answer every FORK with FORKED; return at the end of the channel."""
        parser = MessageParser()
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._channel, 4096, 8 * _DESCRIPTORS, _CLOEXEC)
            for fd in descriptors:
                os.set_inheritable(fd, False)
            self._received += descriptors
            if not data:
                return
            for kind, body in parser.feed(data):
                if kind is MessageType.FORK:
                    self._answer(*unpack_slot_pid(body))

    def _answer(self, slot: int, supervisor: int) -> None:
        """Fork one child with the descriptors that came first; FORKED with pid 0 if that is not possible."""
        mine, self._received = self._received[:_DESCRIPTORS], self._received[_DESCRIPTORS:]
        pid = 0
        if len(mine) == _DESCRIPTORS:
            try:
                pid = self._fork(slot, supervisor, mine)
            except OSError as exc:
                log.warning("cannot fork a child: %s", exc)
        for fd in mine:
            os.close(fd)
        self._channel.sendall(pack_slot_pid(MessageType.FORKED, slot, pid))

    def _fork(self, slot: int, supervisor: int, descriptors: list[int]) -> int:
        """Fork twice, so that the child loses us as its parent; its pid, or 0 if the second fork failed."""
        bootstrap.flush_output()
        read_end, write_end = os.pipe()
        with open(read_end, "rb") as pipe:
            bootstrap.block_signals()
            try:
                middle = _fork_quietly()
                if middle == 0:
                    pipe.close()
                    self._fork_again(slot, supervisor, descriptors, write_end)
            finally:
                os.close(write_end)
                bootstrap.unblock_signals()
            answer = pipe.read()
        with contextlib.suppress(ChildProcessError):  # The app ignores SIGCHLD: the kernel has reaped it.
            os.waitpid(middle, 0)
        return int(answer or b"0")

    def _fork_again(self, slot: int, supervisor: int, descriptors: list[int], write_end: int) -> NoReturn:
        """In the middle process, and on in the child. Nothing returns to the zygote's loop, ever."""
        code = EXIT_BOOT_FAILED
        try:
            pid = _fork_quietly()
            if pid == 0:
                os.close(write_end)
                self._become_child(slot, supervisor, descriptors)
            os.write(write_end, str(pid).encode())
            code = 0
        except BaseException:
            log.exception("cannot make a child")
        finally:
            os._exit(code)

    def _become_child(self, slot: int, supervisor: int, descriptors: list[int]) -> NoReturn:
        """Signals are blocked; the zygote's handlers still stand."""
        self._channel.close()
        os.close(self._arguments.trace)
        for fd in self._received:
            os.close(fd)
        _await_adoption(supervisor)
        os.setpgid(0, 0)
        bootstrap.make_useless(self._unshareable)
        bootstrap.freshen()
        gc.enable()
        data, control, trace = descriptors
        ends = Endpoints(
            slot=slot,
            data=socket.socket(fileno=data),
            control=socket.socket(fileno=control),
            trace=trace,
            slots=self._slots,
            lifeline=self._arguments.lifeline,
            options=self._arguments.options,
        )
        ends.control.setblocking(True)
        ends.control.sendall(pack_hello(os.getpid()))
        Child(self._app, ends).main()


def _fork_quietly() -> int:
    """``os.fork`` without Python's own warning of threads: which there are was checked after the import.

    Python 3.12 and newer count them in a line of /proc, and take our nice value for the count, because our
    name has a space in it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        return os.fork()


def _await_adoption(supervisor: int) -> None:
    """Until the supervisor, a subreaper, is our parent; then die with it."""
    deadline = time.monotonic() + _ADOPTION
    while os.getppid() != supervisor:
        if time.monotonic() > deadline:
            os._exit(EXIT_SUPERVISOR_GONE)
        time.sleep(0.0002)
    platform.die_with_parent()
    if os.getppid() != supervisor:
        os._exit(EXIT_SUPERVISOR_GONE)


def _audit(known: tuple[int, ...]) -> dict[int, str]:
    """Check what the import left behind, warn, and return the descriptors that children must not use."""
    unshareable = bootstrap.unshareable_descriptors(known)
    if unshareable:
        listed = ", ".join(f"{fd} ({what})" for fd, what in unshareable.items())
        log.warning(
            "the app opened descriptors when it was imported that do not work in children: %s; "
            "open them on first use instead",
            listed,
        )
    return unshareable


def main(argv: Sequence[str], load: LoadApp) -> NoReturn:
    """Boot with all signals blocked by the supervisor; import, report, serve."""
    parent = os.getppid()
    arguments = parse_zygote(argv)
    known = (arguments.channel, arguments.trace, arguments.slots, arguments.lifeline)
    for fd in known:
        os.set_inheritable(fd, False)
    bootstrap.reset_signals(caught=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    # From the first moment on: a signal that comes too early waits, and one that nobody caught would end us.
    faulthandler.register(signal.SIGUSR1, arguments.trace, all_threads=True, chain=False)
    bootstrap.unblock_signals()
    os.setpgid(0, 0)
    platform.die_with_parent()
    if os.getppid() != parent:
        at_once(EXIT_SUPERVISOR_GONE)
    platform.keep_environment_readable()
    setproctitle(f"taskito: zygote {arguments.app}")
    channel = socket.socket(fileno=arguments.channel)
    channel.setblocking(True)
    try:
        protect(TASK_PATIENCE)
        configure(arguments.options.log_level, arguments.options.log_format)
        app, report = bootstrap.import_app(arguments.app, load)
    except BaseException as exc:
        channel.sendall(pack(MessageType.FAILED, boot_failure(exc)))
        at_once(EXIT_BOOT_FAILED)
    bootstrap.write_lines()
    slots = SlotTable(arguments.slots, arguments.slot_count, arguments.options.jobs_at_once)
    unshareable = _audit(known)
    native = native_threads.described(native_threads.unfit_for_fork())
    report = dataclasses.replace(report, native_threads=tuple(native))
    # What is here now lives as long as the zygote: kept out of collections, its pages stay shared.
    gc.collect()
    gc.disable()
    gc.freeze()
    bootstrap.flush_loggers()
    channel.sendall(pack(MessageType.READY, report.to_json()))
    Zygote(app, arguments, channel, slots, unshareable).serve()
    after_exit_functions()
