"""Starts children: as many as are missing, and ever more slowly while they fail to start.

Knows how a child is made (by the zygote, or spawned) and which slot it gets; from its READY on it is the
pool's. A child that dies before is a failed boot, and failed boots are tried again ever more slowly.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable

from taskito.worker.children.child_handle import ChildEvents, ChildHandle, ChildState
from taskito.worker.children.import_watch import ImportWatch
from taskito.worker.children.launch import FORK_TIMEOUT, LaunchOptions, SpawnLauncher, ZygoteHandle
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.slots import SlotTable

log = logging.getLogger("taskito.worker")

_NEVER = float("inf")
#: Seconds before the second try to start a child; doubles with every failure after it, up to the longest.
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
#: So many seconds without a failure forgive the earlier ones.
HEALTHY_AFTER = 60.0


class Spawner:
    """Has all living children, and starts more of them."""

    def __init__(
        self,
        options: LaunchOptions,
        selector: selectors.BaseSelector,
        slots: SlotTable,
        *,
        use_zygote: bool,
        fork_anyway: bool,
        rng: Callable[[], float],
        events: ChildEvents,
        on_app: Callable[[AppManifest], int],
        on_app_failed: Callable[[str, str | None], None],
    ) -> None:
        self._options = options
        self._selector = selector
        self._events = events
        self._on_app = on_app  #: answers how many children are wanted
        self._on_app_failed = on_app_failed
        self.slots = slots
        self._free_slots = [0]
        self._use_zygote = use_zygote
        self._fork_anyway = fork_anyway  #: beside threads of native libraries too, as somebody said so
        self.zygote: ZygoteHandle | None = None
        self.launcher = SpawnLauncher(options, slots)
        self.backoff = BootBackoff(rng)
        self.children: dict[int, ChildHandle] = {}
        self._wanted = 0
        self._next_executor = 1
        self.app_known = False
        self.closed = False
        self._early_deaths: dict[
            int, int
        ] = {}  #: pid: wait status of unknown dead processes, while the pid of some child is not known

    # ---- starting ----

    def open(self) -> None:
        """Have the app imported: by the zygote, or by a first child."""
        if not self._use_zygote:
            self._start_child(time.monotonic())
        elif (problem := self._start_zygote()) is not None:
            self._on_app_failed(f"its process cannot be started: {problem}", None)

    def fill_up(self, now: float) -> None:
        """Start what is missing, unless it has to wait."""
        while self._missing() > 0 and self._can_start() and now >= self.backoff.not_before:
            if self._use_zygote and self.zygote is None:
                # The last one died; children come when this one says READY.
                if (problem := self._start_zygote()) is not None:
                    self._start_failed(str(problem), now)
                return
            if not self._start_child(now):
                return

    def watch_imports(self, now: float) -> None:
        """Name the imports that take long, and end those that take too long."""
        zygote = self.zygote
        if zygote is not None and zygote.pid and not zygote.ready and zygote.import_watch.advance(now):
            zygote.give_up()
        for child in self.children.values():
            if child.import_watch is not None and child.state is ChildState.STARTING:
                child.import_watch.advance(now)

    def next_deadline(self) -> float:
        times = [self._boot_deadline(child) for child in self.children.values()]
        if self.zygote is not None and self.zygote.pid and not self.zygote.ready:
            times.append(self.zygote.import_watch.next_deadline())
        for child in self.children.values():
            if child.import_watch is not None and child.state is ChildState.STARTING:
                times.append(child.import_watch.next_deadline())
        if self._missing() > 0 and self._can_start():
            times.append(self.backoff.not_before)
        return min(times, default=_NEVER)

    def overdue(self, now: float) -> list[ChildHandle]:
        """Children that should have been ready by now."""
        return [child for child in self.children.values() if now >= self._boot_deadline(child)]

    def unforked(self, child: ChildHandle) -> None:
        """The zygote never answered for this child: it hangs."""
        log.error("the zygote did not fork within %g s; it is replaced", FORK_TIMEOUT)
        self.forget(child)
        if self.zygote is not None:
            self.zygote.kill()

    def close(self) -> None:
        """No more children. The zygote stays: what the app made at import is its to remove, after them."""
        self.closed = True

    # ---- endings ----

    def forget(self, child: ChildHandle) -> None:
        """It is reaped, or never came to be: its slot is free again."""
        if self.children.pop(child.executor_id, None) is not None:
            self._free_slots.append(child.slot)
            child.close()

    def unknown_died(self, pid: int, status: int) -> None:
        """Some process of ours died that is neither zygote nor child.

        It may be a child whose pid the zygote has not told us yet. Any other was left behind by some
        task: as its adopter (or as PID 1) we only had to reap it.
        """
        if self._owed():
            self._early_deaths[pid] = status

    def stillborn(self) -> list[tuple[ChildHandle, int]]:
        """Children that died, and were reaped, before we knew their pid; with their wait status."""
        if not self._early_deaths:
            return []
        deaths = self._early_deaths
        found = [(child, deaths.pop(child.pid)) for child in self.children.values() if child.pid in deaths]
        if not self._owed():
            deaths.clear()
        return found

    def pid_known(self, child: ChildHandle, pid: int) -> None:
        """It was forked: the FORKED of the zygote or the HELLO of the child comes first."""
        if child.pid:
            return
        child.pid = pid
        if child.killed and pid not in self._early_deaths:
            child.kill_group()

    def zygote_died(self, cause: str, now: float) -> None:
        assert self.zygote is not None
        was_ready, watch = self.zygote.ready, self.zygote.import_watch
        self.zygote.gone()
        self.zygote = None
        for child in self._owed():
            self.forget(child)
        if self.closed or not self._use_zygote:
            return
        if watch.fault is not None:
            self._zygote_failed(watch.fault, watch.stack_text)
        elif not self.app_known:
            self._on_app_failed(f"the process that imports it died of {cause}", None)
        if not self.app_known:
            return
        log.error("the zygote died of %s; the children live on, and a new one is started", cause)
        if not was_ready:
            self.backoff.failed(now)

    # ---- inside ----

    def app_ready(self, report: AppManifest) -> None:
        """The app was imported, by the zygote or by a spawned child."""
        if self._use_zygote and _must_not_fork(report, self._fork_anyway):
            self._use_zygote = False
            assert self.zygote is not None
            self.zygote.hang_up()
        if not self.app_known:
            self.app_known = True
            self._wanted = self._on_app(report)
            # One slot more than wanted, for a replacement that boots while the old child still works.
            used = {child.slot for child in self.children.values()}
            self._free_slots = [slot for slot in range(self._wanted, -1, -1) if slot not in used]

    def _owed(self) -> list[ChildHandle]:
        """Children whose pid is not known yet."""
        return [child for child in self.children.values() if not child.pid]

    def _missing(self) -> int:
        if self.closed:
            return 0
        good = (ChildState.STARTING, ChildState.OPEN)
        return self._wanted - sum(1 for child in self.children.values() if child.state in good)

    def _can_start(self) -> bool:
        if not self._free_slots:
            return False
        return not self._use_zygote or self.zygote is None or self.zygote.ready

    def _boot_deadline(self, child: ChildHandle) -> float:
        if child.state is not ChildState.STARTING or child.fault is not None:
            return _NEVER
        return child.started + (self._options.boot_timeout if child.pid else FORK_TIMEOUT)

    def _start_zygote(self) -> OSError | None:
        """Start one; the error if the system refused."""
        try:
            self.zygote = ZygoteHandle(
                self._options, self.slots, self._selector, self.app_ready, self._zygote_failed, self._forked
            )
        except OSError as exc:
            return exc
        return None

    def _zygote_failed(self, message: str, traceback: str | None) -> None:
        """It cannot import the app. A worker that runs goes on with the children it has, and tries again:
        new code may be on its way to the disk this very moment."""
        if not self.app_known:
            self._on_app_failed(message, traceback)
        else:
            stack = f"\n{traceback}" if traceback else ""
            log.error("the new zygote cannot load the app: %s%s", message, stack)

    def _start_child(self, now: float) -> bool:
        """Ask for one child; False (and a delay before the next try) if it cannot be had."""
        slot = self._free_slots.pop()
        self.slots.clear(slot)
        try:
            child = ChildHandle(self._next_executor, slot, self._selector, self._events, now)
        except OSError as exc:
            self._free_slots.append(slot)
            return self._start_failed(str(exc), now)
        self._next_executor += 1
        self.children[child.executor_id] = child
        try:
            if self._use_zygote and self.zygote is not None:
                self.zygote.fork(child)
            else:
                child.pid = self.launcher.launch(child)
                if not self.app_known:  # Once is enough: the others take as long.
                    child.import_watch = ImportWatch(self._options.app, child, _NEVER, now)
        except OSError as exc:
            self.forget(child)
            return self._start_failed(str(exc), now)
        child.close_childs_ends()
        return True

    def _start_failed(self, why: str, now: float) -> bool:
        delay = self.backoff.failed(now)
        log.error("a child could not be started (%s); next try in %.1f s", why, delay)
        return False

    def _forked(self, slot: int, pid: int) -> None:
        """The zygote answers a fork request; pid 0: it could not fork."""
        now = time.monotonic()
        child = next((child for child in self._owed() if child.slot == slot), None)
        if child is None:
            return
        if not pid:
            self.forget(child)
            self._start_failed("the zygote could not fork", now)
            return
        self.pid_known(child, pid)


def _must_not_fork(report: AppManifest, fork_anyway: bool) -> bool:
    """Did the import start threads that a forked child would miss? Says so, and what comes of it."""
    threads = [*report.threads, *report.native_threads]
    must_not = bool(report.threads or (report.native_threads and not fork_anyway))
    if must_not:
        log.warning(
            "importing %s started threads (%s), and a process with threads must not fork: each child imports "
            "the app itself, as with --start-method spawn",
            report.app,
            ", ".join(threads),
        )
    elif threads:
        log.warning(
            "importing %s started threads of native libraries (%s), which forked children do not have: a job "
            "that waits for them hangs; use --start-method auto or spawn",
            report.app,
            ", ".join(threads),
        )
    return must_not


class BootBackoff:
    """When the next child may be started."""

    def __init__(self, rng: Callable[[], float]) -> None:
        self._rng = rng
        self._failures = 0
        self._last_failure = 0.0
        self.not_before = 0.0

    def failed(self, now: float) -> float:
        """A child died before it was of any use; the seconds until the next try."""
        if now - self._last_failure > HEALTHY_AFTER + LONGEST_DELAY:
            self._failures = 0
        if now < self.not_before:
            return self.not_before - now  # Several that died of one cause are one failure.
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._failures, 20)) * (1.0 + 0.1 * self._rng())
        self._failures += 1
        self._last_failure = now
        self.not_before = now + delay
        return delay

    def healthy(self) -> None:
        """A child finished a job: whatever was wrong is over."""
        self._failures = 0
        self.not_before = 0.0
