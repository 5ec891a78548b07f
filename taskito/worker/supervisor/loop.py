"""The worker's loop: events in from the pool, the store and signals; jobs and outcomes out.

One thread, never blocked: it only waits in the selector. The same loop runs children
(``taskito worker``) and threads (``queue.run_worker()``); the difference is the pool's.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from taskito.worker.dispatch.pool import ExecutorEvents, Pool, PoolEvents
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.signals import SignalPipe
from taskito.worker.store.liveness import PeerLifelines
from taskito.worker.store.requests import Reply, Wakeup
from taskito.worker.supervisor.booting import Booting, LoopOptions, WorkerIdentity, open_running
from taskito.worker.supervisor.mailbox import Mailbox
from taskito.worker.supervisor.running import StartFailure
from taskito.worker.supervisor.shutdown import ExitCode, Phase, Shutdown
from taskito_core.errors import ConfigError, StorageUnavailable, TaskitoError
from taskito_core.plugin_manager import Plugins

log = logging.getLogger("taskito.worker")

#: Seconds between two WorkerShutdowns for a job that ignores them.
INTERRUPT_AGAIN = 1.0


class ShutdownRequest(NamedTuple):
    """Another thread wants the worker to drain."""


class Stage(Protocol):
    """What the loop asks of a worker, whether it is booting or running."""

    @property
    def executors(self) -> ExecutorEvents:
        """Takes what the pool reports of executors."""
        ...

    @property
    def interrupted(self) -> int:
        """How many jobs the shutdown broke off."""
        ...

    @property
    def held(self) -> int:
        """How many claims are in flight."""
        ...

    @property
    def running(self) -> int:
        """How many jobs have begun and not ended."""
        ...

    @property
    def known_to_store(self) -> bool:
        """Does the store believe that this worker is alive?"""
        ...

    def step(self, now: float) -> None:
        """Give out what follows from what came in."""
        ...

    def next_deadline(self) -> float:
        """When ``step`` has something to do next without an event; infinity: never."""
        ...

    def take(self, message: Reply | Wakeup, now: float) -> None:
        """Take in what the store thread posted."""
        ...

    def peer_gone(self) -> None:
        """Another worker on this host is gone with all its processes."""
        ...

    def check(self, now: float) -> StartFailure | None:
        """Why the worker cannot start, if that is known by now."""
        ...

    def drain(self) -> None:
        """Claim and begin nothing more."""
        ...

    def idle(self) -> bool:
        """No claim is in flight."""
        ...

    def leave(self) -> None:
        """Unregister when everything is recorded."""
        ...

    def finished(self) -> bool:
        """While draining: there is nothing to wait for."""
        ...

    def close(self) -> None:
        """Give back threads and connections, in a bounded time. Called last."""
        ...


class WorkerLoop:
    """One worker, from boot to exit code. Implements PoolEvents."""

    def __init__(
        self,
        options: LoopOptions,
        plugins_for: Callable[[AppManifest], Plugins],
        selector: selectors.BaseSelector,
        identity: WorkerIdentity,
        pool_for: Callable[[PoolEvents], Pool],
    ) -> None:
        self._options = options
        self._plugins_for = plugins_for
        self._selector = selector
        self._identity = identity
        self._mail: Mailbox[Reply | Wakeup | ShutdownRequest] = Mailbox()
        self._shutdown = Shutdown(options.graceful_timeout)
        self._acted = Phase.RUNNING  #: the last phase whose beginning was acted upon
        self._interrupt_at = float("inf")
        #: Asked now: a terminal that is gone is none any more.
        self._on_terminal = os.isatty(0)
        self._hears_signals = False
        self._failure: ExitCode | None = None
        self.failure: TaskitoError | None = None  #: why the worker could not start, or not end well
        self._stage: Stage = Booting()
        self._peers = PeerLifelines(selector, self._peer_gone)
        self._pool = pool_for(self)
        selector.register(self._mail, selectors.EVENT_READ, self._take_mail)

    def run(self, signals: SignalPipe | None = None) -> int:
        """Run until drained, stopped or failed; the exit code."""
        if signals is not None:
            self._hears_signals = True
            self._selector.register(signals, selectors.EVENT_READ, lambda _: self._heed(signals.drain()))
        try:
            self._pool.start()
            while not self._finished():
                self._step()
        finally:
            self._pool.close()
            self._close()
        return self._exit_code()

    def request_shutdown(self) -> None:
        """Begin to drain. From any thread."""
        self._mail.post(ShutdownRequest())

    @property
    def held_for_alive(self) -> bool:
        """True after ``run`` if the store could not be told that this worker is gone."""
        return self._stage.known_to_store

    # ---- one step ----

    def _step(self) -> None:
        """Wait for something, take it in, then give out what follows from it."""
        for key, mask in self._selector.select(self._until_next()):
            key.data(mask)
        now = time.monotonic()
        self._pool.tick(now)
        self._shut_down(now)
        self._stage.step(now)

    def _until_next(self) -> float | None:
        """Seconds until something is due; None: until an event."""
        due = min(self._pool.next_deadline(), self._shutdown.deadline, self._interrupt_at)
        if self._shutdown.phase > Phase.RUNNING:
            due = min(due, self._shutdown.flush_by)
        due = min(due, self._stage.next_deadline())
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    # ---- events ----

    def _heed(self, signums: Sequence[int]) -> None:
        now = time.monotonic()
        # Whatever signal came: in a storm of others, a SIGCHLD may find the pipe full.
        self._pool.child_event()
        for signum in signums:
            if signum == signal.SIGCHLD:
                continue
            if signum == signal.SIGHUP and self._on_terminal:
                log.info("the terminal is gone: draining")
                self._shutdown.signal(signum, now)
            elif signum != signal.SIGHUP:
                if signum == signal.SIGQUIT:
                    self._pool.dump_stacks()
                self._shutdown.signal(signum, now)

    def _take_mail(self, mask: int) -> None:
        now = time.monotonic()
        for message in self._mail.take():
            if isinstance(message, ShutdownRequest):
                self._shutdown.request(now)
            else:
                self._stage.take(message, now)

    def _peer_gone(self) -> None:
        self._stage.peer_gone()

    # ---- PoolEvents ----

    def app_ready(self, manifest: AppManifest, executors: int) -> None:
        try:
            self._stage = open_running(
                manifest,
                executors,
                options=self._options,
                identity=self._identity,
                plugins_for=self._plugins_for,
                pool=self._pool,
                peers=self._peers,
                post=self._mail.post,
            )
        except ConfigError as exc:
            self._fail(ExitCode.APP_FAILED, exc)

    def app_failed(self, message: str, traceback: str | None) -> None:
        self._fail(ExitCode.APP_FAILED, ConfigError(f"the app cannot be loaded: {message}"), traceback)

    @property
    def executors(self) -> ExecutorEvents:
        return self._stage.executors

    # ---- shutdown ----

    def _shut_down(self, now: float) -> None:
        """Act on the phase the worker has come to."""
        pool, stage = self._pool, self._stage
        if (failure := stage.check(now)) is not None:
            self._fail(failure.code, failure.error)
        self._shutdown.tick(now)
        phase = self._shutdown.phase
        if phase >= Phase.DRAINING > self._acted:
            log.info("draining: nothing new is begun, %s", self._what_follows(stage.running))
            stage.drain()
            pool.drain()
        if phase >= Phase.INTERRUPTING > self._acted:
            log.warning("running jobs are interrupted and go back")
            self._interrupt_at = now
        if phase >= Phase.KILLING > self._acted:
            log.warning("what still runs is killed and goes back")
            self._interrupt_at = float("inf")
            pool.kill()
        self._acted = phase
        if now >= self._interrupt_at:
            pool.interrupt()
            self._interrupt_at = now + INTERRUPT_AGAIN
        if phase >= Phase.DRAINING and stage.idle():
            pool.dismiss()
            if pool.empty():
                stage.leave()

    def _what_follows(self, running: int) -> str:
        """What becomes of so many running jobs, for whoever asked the worker to end and now waits for it."""
        if not running:
            return "and no job is running"
        jobs = "1 running job" if running == 1 else f"{running} running jobs"
        if self._shutdown.phase > Phase.DRAINING:
            return f"{jobs} so far"
        patience = f"within {self._options.graceful_timeout:g} s"
        if not self._hears_signals:
            return f"{jobs} may end {patience}"
        again = "Ctrl-C again" if self._on_terminal else "a second signal"
        return f"running jobs may end {patience}; {again} interrupts {jobs}"

    def _finished(self) -> bool:
        if self._failure is not None:
            return True
        if self._shutdown.phase is Phase.RUNNING:
            return False
        return time.monotonic() >= self._shutdown.flush_by or self._stage.finished()

    def _fail(self, code: ExitCode, error: TaskitoError, traceback: str | None = None) -> None:
        if self._failure is None:
            self._failure, self.failure = code, error
            log.critical("%s%s", error, f"\n{traceback.rstrip()}" if traceback else "")

    def _close(self) -> None:
        self._stage.close()
        self._peers.close()
        self._selector.unregister(self._mail)
        self._mail.close()

    def _exit_code(self) -> int:
        if self._failure is not None:
            return self._failure
        if held := self._stage.held:
            message = f"{held} jobs could not be settled before the end; another worker will rescue them"
            log.error("%s", message)
            self.failure = StorageUnavailable(message)
        code = self._shutdown.exit_code(self._stage.interrupted, held)
        log.info("worker %s is done", self._identity.id)
        return code
