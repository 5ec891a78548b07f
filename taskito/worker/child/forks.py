"""What a process that a task forks becomes: an ordinary one that holds nothing of the child's."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from collections.abc import Callable, Iterable

from taskito.worker.child import bootstrap
from taskito.worker.ipc.signals import HeldSignals
from taskito.worker.ipc.slots import SlotTable

#: Signals that do something in a child, or nothing, that they would not do elsewhere.
_OURS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR2)


class ForkGuard:
    """Watches for forks in one child, and cuts the new process off from it."""

    def __init__(
        self, slots: SlotTable, descriptors: Callable[[], Iterable[int]], on_fork: Callable[[], None]
    ) -> None:
        self._slots = slots
        self._descriptors = descriptors  #: what a forked process must not keep
        self._on_fork = on_fork  #: called in a forked process, too
        self._handlers: dict[signal.Signals, object] = {}
        self._held = HeldSignals(_OURS)
        self.forked = False  #: a task forked, and this is the new process

    def install(self) -> None:
        """From now on; the child's own signal handlers stand by now."""
        self._handlers = {signum: bootstrap.handler_of(signum) for signum in _OURS}
        os.register_at_fork(
            before=self._held.hold,
            after_in_parent=self._held.release,
            after_in_child=self._after_in_child,
        )

    def _after_in_child(self) -> None:
        if not self.forked:
            self.forked = True
            self._become_ordinary()
        self._held.release()

    def _become_ordinary(self) -> None:
        # An event loop that handles signals has one, and before Python 3.12 it would be the parent's.
        signal.set_wakeup_fd(-1)
        for signum, handler in self._handlers.items():
            # Those that the task has set itself are its own to inherit.
            if bootstrap.handler_of(signum) is handler:
                default = signal.default_int_handler if signum is signal.SIGINT else signal.SIG_DFL
                signal.signal(signum, default)
        faulthandler.unregister(signal.SIGUSR1)
        faulthandler.disable()
        for fd in self._descriptors():
            with contextlib.suppress(OSError):
                os.close(fd)
        with contextlib.suppress(OSError):
            self._slots.close()
        self._on_fork()
