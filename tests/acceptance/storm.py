"""Workers, and what happens to them and to their store in years, in minutes. Seeded."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping

from tests.faults.clock import SetClock
from tests.faults.harness import Worker, children_of, in_session, title, wait_until
from tests.faults.proxy import Wire
from tools.postgres_pair import Pair

WORKERS, PROCS = 3, 2
#: Seconds between two events.
PACE = (0.3, 1.5)
#: Seconds for which a worker is frozen: now and then longer than its lease.
FREEZES = (0.5, 2.0, 8.0, 40.0)
#: Seconds by which the store's clock is wrong.
SHIFTS = (0, 3600, -3600, 90, -90, 86400, 1, -1)
#: Seconds for which the standby is away: now and then longer than a lease.
ABSENCES = (2.0, 5.0, 40.0)

#: Exit codes of workers that a service manager starts again: told once to end, twice, more often; it could
#: not settle all in its time; its first zygote was killed; it was killed itself.
ENDINGS = (0, 75, 130, 1, 3, -signal.SIGKILL)


class Servers:
    """A primary and its standby behind one address; commits wait for the standby."""

    def __init__(self, pair: Pair, wire: Wire) -> None:
        self._pair, self._wire = pair, wire
        for server in (pair.primary, pair.standby):
            server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            server.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        self._pair.switch_over()
        self._wire.move(self._pair.primary.url())

    def crash(self) -> None:
        """The primary is gone without a word, and comes back later as the standby of the other."""
        self._pair.fail_over()
        self._wire.move(self._pair.primary.url())
        self._pair.renew_standby()

    def standby_goes(self) -> None:
        self._pair.standby.stop()

    def standby_comes(self) -> None:
        self._pair.standby.ensure_running()


class Storm:
    """Three workers in a storm of ``seconds``; nothing in it lasts longer."""

    def __init__(
        self,
        start: Callable[[], Worker],
        clock: SetClock,
        servers: Servers | None,
        seed: int,
        seconds: float,
    ) -> None:
        self._start, self._clock, self._servers = start, clock, servers
        self._dice = random.Random(seed)
        self._seconds = seconds
        self._thaws: dict[int, float] = {}  #: session -> when it goes on
        self._standby_comes: float | None = None
        self.workers: list[Worker] = []
        self.gone: list[Worker] = []
        self.happened: Counter[str] = Counter()
        self._events: Mapping[Callable[[], bool], int] = {
            self._kill: 40,
            self._freeze: 15,
            self._restart: 10,
            self._set_clock: 15,
        }
        if servers is not None:
            self._events = {**self._events, self._promote: 3, self._crash: 3, self._standby_goes: 6}
        # However short the storm, one of each.
        self._first = self._dice.sample(list(self._events), len(self._events))

    def rage(self) -> None:
        self.workers = [self._start() for _ in range(WORKERS)]
        for worker in self.workers:
            worker.ready(PROCS)
        end = time.monotonic() + self._seconds
        while (next_at := time.monotonic() + self._dice.uniform(*PACE)) < end:
            event = self._next_event()
            if event():
                self.happened[event.__name__.strip("_")] += 1
            wait_until(lambda at=next_at: time.monotonic() >= at, 60)  # type: ignore[misc]
            self._mend()

    def _next_event(self) -> Callable[[], bool]:
        if self._first:
            return self._first.pop()
        [event] = self._dice.choices(list(self._events), list(self._events.values()))
        return event

    def calm(self) -> None:
        """Whatever was frozen or away goes on; the clock stays as it is."""
        self._thaws = dict.fromkeys(self._thaws, 0.0)
        if self._standby_comes is not None:
            self._standby_comes = 0.0
        self._mend()

    def stop(self) -> list[int]:
        """Exit codes, after SIGTERM to each worker."""
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        return [worker.wait() for worker in self.workers]

    def left(self) -> list[int]:
        """Processes of workers that are gone."""
        return [pid for worker in (*self.gone, *self.workers) for pid in in_session(worker.pid)]

    def outputs(self) -> str:
        return "\n".join(f"--- {worker.pid}\n{worker.output()[-3000:]}" for worker in self.workers)

    # ---- events: True if it happened ----

    def _kill(self) -> bool:
        kind = self._dice.choices(["child", "supervisor", "zygote"], [60, 25, 15])[0]
        worker = self._dice.choice(self.workers)
        pids = [worker.pid, *children_of(worker.pid)]
        victims = sorted(pid for pid in pids if f"taskito: {kind}" in title(pid))
        if not victims:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._dice.choice(victims), signal.SIGKILL)
        return True

    def _freeze(self) -> bool:
        """A suspended machine, a container that is paused: each process of one worker, for a while."""
        worker = self._dice.choice(self.workers)
        if worker.pid in self._thaws or worker.exited():
            return False
        worker.signal_group(signal.SIGSTOP)
        self._thaws[worker.pid] = time.monotonic() + self._dice.choice(FREEZES)
        return True

    def _restart(self) -> bool:
        worker = self._dice.choice(self.workers)
        if worker.pid in self._thaws or worker.exited() or not worker.job_children():
            return False
        worker.signal(signal.SIGTERM)
        return True

    def _set_clock(self) -> bool:
        self._clock.ahead(self._dice.choice(SHIFTS) * 1000)
        return True

    def _promote(self) -> bool:
        if self._servers is None or self._standby_comes is not None:
            return False
        self._servers.promote()
        return True

    def _crash(self) -> bool:
        if self._servers is None or self._standby_comes is not None:
            return False
        self._servers.crash()
        return True

    def _standby_goes(self) -> bool:
        if self._servers is None or self._standby_comes is not None:
            return False
        self._servers.standby_goes()
        self._standby_comes = time.monotonic() + self._dice.choice(ABSENCES)
        return True

    # ---- between the events ----

    def _mend(self) -> None:
        now = time.monotonic()
        for worker in list(self.workers):
            if self._thaws.get(worker.pid, now + 1) <= now:
                worker.signal_group(signal.SIGCONT)
                del self._thaws[worker.pid]
            if worker.exited():
                assert worker.wait() in ENDINGS, worker.output()
                if self._thaws.pop(worker.pid, None) is not None:
                    worker.signal_group(signal.SIGCONT)  # Its children end when they see that it is gone.
                self.gone.append(worker)
                self.workers[self.workers.index(worker)] = self._start()
        if self._servers is not None and self._standby_comes is not None and self._standby_comes <= now:
            self._standby_comes = None
            self._servers.standby_comes()
