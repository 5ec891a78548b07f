"""Anything may be killed at any time: every job ends, once, and nothing is left lying about."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.acceptance import audit
from tests.acceptance.load import Load
from tests.faults.harness import Worker, children_of, in_session, processes, title, wait_until

#: How often each kind of process is chosen. Most are children; a supervisor takes its children with it.
WEIGHTS = {"child": 80, "zygote": 14, "supervisor": 6}


class Killer:
    """Two workers, and somebody who kills one of their processes each tenth of a second."""

    def __init__(self, start_worker, seed: int) -> None:
        self._start = lambda: start_worker("--procs", "4", procs=0)
        self._dice = random.Random(seed)
        # The first supervisor is spared, so that what it might leak has the whole run to pile up.
        self.spared: Worker = self._start().ready(4)
        self.other: Worker = self._start()
        self.gone: list[Worker] = []
        self.kills: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (next_at := time.monotonic() + 0.1) < end:
            self.restart_what_ended()
            self._kill_one()
            wait_until(lambda at=next_at: time.monotonic() >= at)

    def _kill_one(self) -> None:
        kind = self._dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if kind == "supervisor":
            self.other.signal(signal.SIGKILL)
            self.other.wait(10)
            self._replace()
        else:
            worker = self._dice.choice([self.spared, self.other])
            victims = sorted(pid for pid in children_of(worker.pid) if f"taskito: {kind}" in title(pid))
            if not victims:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._dice.choice(victims), signal.SIGKILL)
        self.kills[kind] += 1

    def restart_what_ended(self) -> None:
        """As a service manager does: without its zygote a worker that has not booted yet gives up."""
        if self.other.exited():
            assert self.other.wait() == 3, self.other.output()
            assert "the process that imports it died of SIGKILL" in self.other.output()
            self._replace()

    def _replace(self) -> None:
        self.gone.append(self.other)
        self.other = self._start()

    @property
    def alive(self) -> list[Worker]:
        return [self.spared, self.other]

    def outputs(self) -> str:
        return "\n".join(f"--- {worker.pid}\n{worker.output()[-3000:]}" for worker in self.alive)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def zombies(workers: Sequence[Worker]) -> list[int]:
    """Children of these workers that are dead and not reaped."""
    supervisors = {worker.pid for worker in workers}
    return [pid for pid, fields in processes() if fields[0] == "Z" and int(fields[1]) in supervisors]


@pytest.mark.parametrize(
    ("count", "seconds"),
    [
        pytest.param(2_000, 5.0, id="2000"),
        pytest.param(20_000, 60.0, id="20000", marks=[pytest.mark.faults, pytest.mark.timeout(400)]),
    ],
)
def test_every_job_ends_once_whatever_is_killed(app, start_worker, backend_url, count, seconds):
    app.queue.storage.migrate()
    audit.begin(backend_url)
    load = Load(app, count, slow_percent=90)
    killer = Killer(start_worker, seed=count)

    killer.run(seconds)
    wait_until(lambda: killer.other.exited() or len(killer.other.job_children()) == 4, 60)
    killer.restart_what_ended()
    load.finish(60 + seconds, killer.outputs)

    print(f"killed {dict(killer.kills)}")
    rows = load.check(killer.spared.starts(), lambda row: row.crashes + row.interruptions)
    assert audit.endings(backend_url) == Counter(load.ids)
    assert sum(row.crashes for row in rows) <= killer.kills["child"] + killer.kills["zygote"]
    # Nothing is left: no process of the dead, no zombie, no descriptor that a fresh worker has not.
    for worker in killer.gone:
        worker.nothing_left()
    fresh = start_worker(procs=4)
    # It has to have run something: the door to the metrics opens with the first attempt.
    wait_until(lambda: app.whoami.delay().result(20) in fresh.job_children(), 60, "it runs a job")
    wait_until(lambda: not zombies((*killer.alive, fresh)), 10, "no zombie is left")
    for worker in killer.alive:
        worker.ready(4)
        wait_until(
            lambda pid=worker.pid: descriptors(pid) <= descriptors(fresh.pid),
            20,
            f"{descriptors(worker.pid)} descriptors, a fresh worker has {descriptors(fresh.pid)}",
        )
    for worker in (*killer.alive, fresh):
        worker.signal(signal.SIGTERM)
    assert [worker.wait() for worker in (*killer.alive, fresh)] == [0, 0, 0]
    assert not in_session(fresh.pid)
