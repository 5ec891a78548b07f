"""The dispatcher against a simulated world: virtual clock, seeded faults, and one invariant.

Whatever children do and however often the store is away, every claim is in one place and every job is
recorded once.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import Exit, InFlight
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.wire import ResultKind, ResultMessage, pack_error
from taskito_core.job import Claim, Complete, Dead, ErrorInfo, ErrorKind, Release, Retry
from taskito_core.retry import RetryPolicy

TASKS = {name: TaskPolicy(name, "default", RetryPolicy(max_retries=2), 0.0) for name in ("fast", "slow")}


class World:
    """A store, a few children and their clock, all made of plain lists."""

    def __init__(self, seed: int, jobs: int, faults: float) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.now = 0.0
        self.pending = [
            (f"job{n}", self.random.choice(["fast", "fast", "fast", "slow"])) for n in range(jobs)
        ]
        self.counters = {job_id: [0, 0, 0] for job_id, _ in self.pending}
        self.tasks = dict(self.pending)
        self.running: dict[str, int] = {}
        self.recorded: dict[str, object] = {}
        self.token = 0
        self.dispatcher = Dispatcher(TASKS, self.random.random)
        self.children: dict[int, list[InFlight]] = {}
        self.unheard: dict[int, list[ResultMessage]] = {}
        self.done: dict[int, int] = {}
        self.next_child = 1

    # the store

    def exchange(self) -> None:
        batch = self.dispatcher.take_outbox()
        if self.random.random() < self.faults:
            self.dispatcher.unsettled(batch)
            return
        recorded = frozenset(entry.claim.id for entry in batch if self.record(entry))
        assert not self.dispatcher.settled(batch, recorded)
        self.token += 1
        claims = []
        for _ in range(min(self.dispatcher.want(), len(self.pending))):
            job_id, task = self.pending.pop(0)
            self.running[job_id] = self.token
            claims.append(
                Claim(
                    job_id, self.token, task, "default", b"", *self.counters[job_id], None, None, None, 0, 0
                )
            )
        self.dispatcher.claimed(claims, self.now)

    def record(self, entry: InFlight) -> bool:
        outcome = entry.outcome
        assert outcome is not None
        job_id = outcome.job_id
        assert self.running.pop(job_id) == outcome.token, "settled twice, or by a stranger"
        match outcome:
            case Complete() | Dead():
                assert job_id not in self.recorded
                self.recorded[job_id] = outcome
            case Retry(charge=charge):
                self.counters[job_id][["retry_count", "crashes", "interruptions"].index(charge)] += 1
                self.pending.append((job_id, self.tasks[job_id]))
            case Release():
                self.pending.append((job_id, self.tasks[job_id]))
        return True

    # the children

    def start_child(self) -> None:
        self.children[self.next_child] = []
        self.unheard[self.next_child] = []
        self.done[self.next_child] = 0
        self.dispatcher.executors.open(self.next_child, self.now)
        self.next_child += 1

    def run_some(self, child: int) -> None:
        jobs = self.children[child]
        for _ in range(self.random.randint(0, len(jobs))):
            entry = jobs.pop(0)
            self.done[child] += 1
            self.unheard[child].append(self.result(entry))
            if self.random.random() < 0.5:
                self.flush(child)

    def result(self, entry: InFlight) -> ResultMessage:
        ran = 0.00002 if entry.claim.task_name == "fast" else 0.05
        if self.random.random() < 0.1:
            error = ErrorInfo(ErrorKind.RAISED, "ValueError", "simulated")
            return ResultMessage(entry.seq, ResultKind.RAISED, self.now, ran, pack_error(error, True))
        return ResultMessage(entry.seq, ResultKind.RETURNED, self.now, ran, b"")

    def flush(self, child: int) -> None:
        messages, self.unheard[child] = self.unheard[child], []
        self.dispatcher.results(child, messages, self.now)

    def hand_back(self, child: int) -> None:
        self.flush(child)
        kept = self.children[child][:1] if self.random.random() < 0.5 else []
        back = self.children[child][len(kept) :]
        self.children[child] = kept
        self.dispatcher.returned(child, [entry.seq for entry in back])

    def recycle(self, child: int) -> None:
        """It asked to be replaced: what it has not begun comes back."""
        self.start_child()
        self.dispatcher.executors.close(child)
        self.hand_back(child)

    def kill(self, child: int) -> None:
        jobs = self.children.pop(child)
        running = {jobs[0].seq: self.now} if jobs and self.random.random() < 0.8 else {}
        error = ErrorInfo(ErrorKind.CRASH, "SIGKILL", "simulated")
        if self.random.random() < 0.5:
            self.flush(child)  # It had reached the socket.
        self.dispatcher.lose_executor(child, Exit(error, running, self.done[child]), self.now)

    # the run

    def step(self) -> None:
        self.now += self.random.choice([0.0001, 0.001, 0.03, 0.5])
        while len(self.children) < 3:
            self.start_child()
        for executor, frame in self.dispatcher.assign(self.now):
            self.children[executor.id].extend(frame)
        if self.random.random() < 0.02:
            self.recycle(self.random.choice(list(self.children)))
        for executor in self.dispatcher.executors.recalls(self.now, lambda _: {}):
            self.hand_back(executor.id)
        self.dispatcher.return_surplus(self.now)
        for child in list(self.children):
            self.run_some(child)
            executor = self.dispatcher.executors[child]
            if self.random.random() < self.faults or (executor.closing and not self.children[child]):
                self.kill(child)
            elif self.random.random() < 0.7:
                self.flush(child)
        self.exchange()
        self.check()

    def check(self) -> None:
        held = [job_id for job_id, _ in self.dispatcher.holding()]
        assert len(held) == len(set(held))
        assert set(held) == set(self.running)
        waiting = {job_id for job_id, _ in self.pending}
        assert len(waiting) + len(self.running) + len(self.recorded) == len(self.tasks)

    def run(self) -> None:
        for _ in range(20_000):
            self.step()
            if len(self.recorded) == len(self.tasks):
                assert self.dispatcher.idle()
                return
        raise AssertionError(f"{len(self.tasks) - len(self.recorded)} jobs never ended")


@pytest.mark.parametrize("faults", [0.0, 0.02, 0.2])
def test_every_job_is_recorded_exactly_once_whatever_dies(faults):
    world = World(seed=7, jobs=500, faults=faults)

    world.run()

    crashed = [o for o in world.recorded.values() if isinstance(o, Dead) and "crashed" in o.reason]
    assert all(world.counters[dead.job_id][1] == RetryPolicy().max_crashes for dead in crashed)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), jobs=st.integers(1, 60), faults=st.sampled_from([0.0, 0.05, 0.3]))
def test_no_order_of_events_loses_or_doubles_a_job(seed, jobs, faults):
    World(seed, jobs, faults).run()
