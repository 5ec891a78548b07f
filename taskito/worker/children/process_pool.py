"""The pool of child processes: talks to them, ends them, reaps them.

Every child is a direct child of this process (forked by the zygote and handed over to us, or spawned),
so its true exit status is ours to read. Jobs are only bytes and numbers here.
"""

from __future__ import annotations

import logging
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Sequence

from taskito.config.cpus import available_cpus
from taskito.worker.children import reaper
from taskito.worker.children.cancel import ForcedCancels
from taskito.worker.children.child_handle import ChildHandle, ChildState
from taskito.worker.children.hard_timeout import HardTimeouts
from taskito.worker.children.import_watch import where
from taskito.worker.children.launch import LaunchOptions, read_failure
from taskito.worker.children.spawner import Spawner
from taskito.worker.dispatch.inflight import InFlight
from taskito.worker.dispatch.pool import PoolEvents
from taskito.worker.ipc import platform
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.failure_events import FailureEvent, FailureEventQueue
from taskito.worker.ipc.slots import SlotTable
from taskito.worker.ipc.wire import (
    PROTOCOL_VERSION,
    MessageType,
    WireError,
    pack,
    pack_jobs,
    unpack_hello,
    unpack_note,
    unpack_results,
    unpack_seqs,
)

log = logging.getLogger("taskito.worker")

#: Children of one worker, at most; the slot table has this many records.
MAX_PROCS = 1000
#: A child that closed its sockets gets so many seconds to exit by itself.
SILENT_GRACE = 1.0
#: A child that is recycled gets so many seconds for its callbacks and threads.
EXIT_GRACE = 10.0
#: The zygote, which goes last, gets so many seconds for the app's exit functions, bounded by itself to fewer.
ZYGOTE_GRACE = 4.0
#: A child that died younger than this without ending a job was no good start.
USEFUL_AGE = 1.0
#: Seconds the children get to write their stacks before the stacks are logged.
DUMP_TIME = 0.1
_NEVER = float("inf")


class ProcessPool:
    """Keeps the wanted number of children, each one executor."""

    def __init__(
        self,
        options: LaunchOptions,
        procs: int | None,
        selector: selectors.BaseSelector,
        events: PoolEvents,
        *,
        start_method: str,
        rng: Callable[[], float],
    ) -> None:
        self._procs = procs  #: None: the app's setting; 0: as many as there are CPUs
        self._events = events
        self._boot_timeout = options.boot_timeout
        self._slots = SlotTable.create(MAX_PROCS + 1, options.child.jobs_at_once)
        self._spawner = Spawner(
            options,
            selector,
            self._slots,
            use_zygote=start_method != "spawn" and platform.can_use_zygote(),
            fork_anyway=start_method == "zygote",
            rng=rng,
            events=self,
            on_app=self._app_ready,
            on_app_failed=events.app_failed,
        )
        self._children = self._spawner.children
        self._hard_timeouts = HardTimeouts(self._slots)
        self._forced_cancels = ForcedCancels(self._slots, self._hard_timeouts)
        self._stacks_at = _NEVER
        self._failure_events = FailureEventQueue()

    # ---- Pool ----

    def start(self) -> None:
        self._spawner.open()

    def send(self, executor_id: int, entries: Sequence[InFlight]) -> None:
        self._children[executor_id].data.write(pack_jobs(entry.message() for entry in entries))

    def recall(self, executor_id: int) -> None:
        self._children[executor_id].control.write(pack(MessageType.RECALL))

    def running(self, executor_id: int) -> dict[int, float]:
        return self._slots.read(self._children[executor_id].slot).running

    def stop_overdue(self, executor_id: int, seq: int) -> None:
        self.recall(executor_id)  # What ended beside it is written out before the process is stopped.
        self._hard_timeouts.begin(self._children[executor_id], seq, time.monotonic())

    def revoke(self, executor_ids: Iterable[int]) -> None:
        for executor_id in executor_ids:
            if (child := self._children.get(executor_id)) is not None:
                self._kill_child(child)

    def interrupt(self) -> None:
        for child in self._children.values():
            if running := self._slots.read(child.slot).running:
                for seq in running:
                    self._slots.set_interrupt(child.slot, seq)
                child.signal(signal.SIGUSR2)

    def cancel(self, executor_id: int, seq: int, force: bool) -> None:
        child = self._children[executor_id]
        self._slots.set_cancel(child.slot, seq)
        if force and seq in self._slots.read(child.slot).running:
            self._forced_cancels.begin(child, seq, time.monotonic())

    def drain(self) -> None:
        self._spawner.close()
        for child in self._children.values():
            if child.state is ChildState.STARTING:
                # One whose pid is not known yet is killed when it is, or ends by its closed sockets.
                self._kill_child(child)
            elif child.state is not ChildState.CLOSING:
                self._close_child(child)

    def dismiss(self) -> None:
        for child in self._children.values():
            if child.state is ChildState.CLOSING:
                child.dismiss()

    def kill(self) -> None:
        for child in self._children.values():
            self._kill_child(child)
        if self._spawner.zygote is not None:
            self._spawner.zygote.kill()

    def dump_stacks(self) -> None:
        for child in self._children.values():
            child.stack.clear()
            child.signal(signal.SIGUSR1)
        self._stacks_at = time.monotonic() + DUMP_TIME

    def notify(self, events: Sequence[FailureEvent]) -> None:
        self._failure_events.add(events)
        self._hand_out_failure_events()

    def child_event(self) -> None:
        now = time.monotonic()
        self._hard_timeouts.advance(now)
        while (found := reaper.next_dead()) is not None:
            self._process_died(*found, now)

    def tick(self, now: float) -> None:
        self._forced_cancels.advance(now)
        self._hard_timeouts.advance(now)
        for child, status in self._spawner.stillborn():
            self._child_died(child, status)
        self._spawner.watch_imports(now)
        for child in self._spawner.overdue(now):
            self._give_up_booting(child, now)
        for child in self._children.values():
            if now >= child.doomed_at:
                self._end_doomed(child, now)
        if now >= self._stacks_at:
            self._log_stacks()
        self._spawner.fill_up(now)

    def next_deadline(self) -> float:
        doomed = min((child.doomed_at for child in self._children.values()), default=_NEVER)
        own = min(self._stacks_at, doomed, self._forced_cancels.next_deadline())
        return min(own, self._hard_timeouts.next_deadline(), self._spawner.next_deadline())

    def empty(self) -> bool:
        return not any(child.pid for child in self._children.values())

    def close(self) -> None:
        self._spawner.close()
        zygote = self._spawner.zygote
        if zygote is not None and zygote.ready and zygote.pid and self.empty():
            zygote.hang_up()
            reaper.await_death(zygote.pid, ZYGOTE_GRACE)
        self.kill()
        if zygote is not None and zygote.pid:
            reaper.reap(zygote.pid)
            zygote.gone()
        for child in list(self._children.values()):
            if child.pid:
                reaper.reap(child.pid)  # Perhaps in vain: one that died before its pid was known.
                self._spawner.launcher.reaped(child.pid)
            self._spawner.forget(child)
        self._slots.close()
        self._failure_events.close()

    # ---- ChildEvents ----

    def message(self, child: ChildHandle, kind: MessageType, body: bytes) -> None:
        match kind:
            case MessageType.RESULTS:
                results = unpack_results(body)
                child.ended_jobs += len(results)
                self._spawner.backoff.healthy()
                self._events.executors.results(child.executor_id, results)
            case MessageType.NOTES:
                self._events.executors.note(child.executor_id, *unpack_note(body))
            case MessageType.RETURNED:
                self._events.executors.returned(child.executor_id, unpack_seqs(body))
            case MessageType.HELLO:
                version, pid = unpack_hello(body)
                if version != PROTOCOL_VERSION:
                    raise WireError(f"protocol {version}; this supervisor speaks {PROTOCOL_VERSION}")
                self._spawner.pid_known(child, pid)
            case MessageType.READY:
                self._child_ready(child, body)
            case MessageType.FAILED:
                self._child_failed(child, body)
            case MessageType.RECYCLE:
                self._recycle(child)
            case _:
                raise WireError(f"an unexpected {kind.name}")

    def garbage(self, child: ChildHandle, what: str) -> None:
        child.fault = f"its process wrote to the worker's socket what is no message: {what}"
        log.error("child %d is killed: %s", child.pid, child.fault)
        child.kill_group()

    def silent(self, child: ChildHandle) -> None:
        child.doom(time.monotonic() + SILENT_GRACE, "its process closed its connection to the worker")

    def _app_ready(self, report: AppManifest) -> int:
        wanted = report.workers if self._procs is None else self._procs
        procs = min(MAX_PROCS, wanted or available_cpus())
        self._events.app_ready(report, procs)
        return procs

    def _child_ready(self, child: ChildHandle, body: bytes) -> None:
        if body and not self._spawner.app_known:
            self._spawner.app_ready(AppManifest.from_json(body))
        if self._spawner.closed:
            self._kill_child(child)
            return
        child.state = ChildState.OPEN
        child.opened = time.monotonic()
        recycling = [other for other in self._children.values() if other.state is ChildState.RECYCLING]
        for old in recycling[:1]:
            self._close_child(old)
            old.dismiss()
            # It holds the slot that the next replacement needs.
            old.doom(child.opened + EXIT_GRACE, f"it did not end within {EXIT_GRACE:g} s")
        self._events.executors.opened(child.executor_id)
        self._hand_out_failure_events()

    def _hand_out_failure_events(self) -> None:
        """To children that have no job now, or else to any: those who have one come to it later."""
        ready = [child for child in self._children.values() if child.runs_callbacks]
        idle = [child for child in ready if not self._slots.read(child.slot).running]
        self._failure_events.give_to([child.take_failure_event for child in idle or ready])

    def _child_failed(self, child: ChildHandle, body: bytes) -> None:
        message, traceback = read_failure(body)
        child.fault = message
        if not self._spawner.app_known:
            self._events.app_failed(message, traceback)
        else:
            log.error("child %d could not start: %s", child.pid, traceback or message)

    def _log_stacks(self) -> None:
        self._stacks_at = _NEVER
        for child in self._children.values():
            _log_stack(child)

    # ---- how children end ----

    def _recycle(self, child: ChildHandle) -> None:
        """It begins nothing more, and goes when its replacement is open."""
        if child.state is ChildState.OPEN:  # Else it is on its way out already.
            child.state = ChildState.RECYCLING
            self._events.executors.closing(child.executor_id)

    def _close_child(self, child: ChildHandle) -> None:
        child.state = ChildState.CLOSING
        self._events.executors.closing(child.executor_id)
        child.control.write(pack(MessageType.DRAIN))

    def _kill_child(self, child: ChildHandle) -> None:
        """End it for a reason of ours: its jobs are handed back uncharged."""
        child.killed = True
        child.kill_group()

    def _give_up_booting(self, child: ChildHandle, now: float) -> None:
        if not child.pid:
            self._spawner.unforked(child)
            return
        what = "it was not ready" if self._spawner.app_known else "importing it did not end"
        child.fault = f"{what} within {self._boot_timeout:g} s"
        child.doom(now + DUMP_TIME, child.fault)
        child.stack.clear()
        child.signal(signal.SIGUSR1)  # Its stack is logged when it is dead.

    def _end_doomed(self, child: ChildHandle, now: float) -> None:
        child.fault = child.fault or child.doomed_for
        child.doomed_at = now + SILENT_GRACE  # Once more then, unless it is reaped.
        child.kill_group()

    def _process_died(self, pid: int, status: int, now: float) -> None:
        """One dead process, not reaped yet: its pid and group cannot be anybody else's."""
        child = next((child for child in self._children.values() if child.pid == pid), None)
        zygote = self._spawner.zygote
        if child is not None:
            child.kill_group()
        elif zygote is not None and pid == zygote.pid:
            zygote.read_everything()
        if not reaper.reap(pid):
            return  # A program that another thread started, a plugin's say, and has waited for meanwhile.
        self._spawner.launcher.reaped(pid)
        if child is not None:
            self._child_died(child, status)
        elif zygote is not None and pid == zygote.pid:
            self._spawner.zygote_died(reaper.cause_of(status), now)
        else:
            self._spawner.unknown_died(pid, status)

    def _child_died(self, child: ChildHandle, status: int) -> None:
        """It is dead and reaped; what it wrote before is read now, and wins over its death."""
        child.reaped = True
        child.read_everything()
        now = time.monotonic()
        exit_ = reaper.exit_of(child, status, self._slots.read(child.slot))
        asked = child.killed or child.state is ChildState.CLOSING or bool(child.timed_out or child.cancelled)
        useful = child.opened and (child.ended_jobs or exit_.running or now - child.opened > USEFUL_AGE)
        if self._stacks_at != _NEVER:
            _log_stack(child)
        self._hard_timeouts.forget(child)
        self._forced_cancels.forget(child)
        self._spawner.forget(child)
        if child.opened:
            self._events.executors.lost(child.executor_id, exit_)
        if not self._spawner.app_known and not self._spawner.closed:
            place, stack_shown = where(exit_.error.traceback)
            died = f"the child that imports it died of {reaper.cause_of(status)}"
            self._events.app_failed(f"{child.fault or died}{place}", stack_shown)
        elif not asked:
            delay = 0.0 if useful else self._spawner.backoff.failed(now)
            stack = f"\n{exit_.error.traceback}" if exit_.error.traceback and not child.opened else ""
            when = f"in {delay:.1f} s" if delay else "at once"
            log.warning("child %d died: %s; replaced %s%s", child.pid, exit_.error.message, when, stack)


def _log_stack(child: ChildHandle) -> None:
    stack = child.stack.text() or "none: it has not booted yet"
    log.warning("stack of child %d (slot %d):\n%s", child.pid, child.slot, stack)
