"""Old and new versions of an app beside each other: each job runs where its task is known."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from taskito import Queue
from taskito_core.job import Job, JobStatus
from tests.faults.harness import HERE, Worker, wait_until

OLD_APP = """
from faultapp import square
from taskito import Queue

queue = Queue()
queue.task(name=square.name)(square.function)
"""

#: Two versions of one app, by the names of what only one of them has.
VERSIONS = {"old": ("pack", "count_stock"), "new": ("ship", "send_bills")}
SHOP = """
import os
from faultapp import note
from taskito import Queue, current_job

queue = Queue()


@queue.task
def common() -> None:
    note("start", current_job.id, os.getpid())


@queue.task
def {task}() -> None:
    note("start", current_job.id, os.getpid())


@queue.periodic("* * * * * *")
def {schedule}() -> None:
    note("start", current_job.id, os.getpid())
"""
#: Seconds between a slot and the moment it is fired, at most.
SLOT_LATE = 3


def worker_id(app, worker):
    return next(info.id for info in app.queue.workers() if info.pid == worker.pid)


def test_each_job_runs_where_its_task_is_known(app, start_worker, tmp_path):
    (tmp_path / "oldapp.py").write_text(OLD_APP)
    old = start_worker("--app", "oldapp:queue")
    specs = [app.square.spec(n) if n % 2 else app.slow_square.spec(n, 0.001) for n in range(300)]

    # The old worker alone: what it does not know stays for somebody who does.
    alone = app.queue.enqueue_many(specs)
    assert [job.result(30) for job in alone[1::2]] == [n * n for n in range(1, 300, 2)]
    rows = app.queue.storage.get([job.id for job in alone[::2]])
    assert all(row.status is not JobStatus.COMPLETE for row in rows)
    assert old.starts().keys() == {job.id for job in alone[1::2]}

    # With a new one beside it, and more of both kinds.
    new = start_worker()
    beside = app.queue.enqueue_many(specs)

    jobs = alone + beside
    assert [job.result(30) for job in jobs] == [n * n for n in range(300)] * 2
    assert set(new.starts().values()) == {1}
    rows = app.queue.storage.get([job.id for job in jobs])
    assert all(row.crashes == row.retry_count == row.interruptions == 0 for row in rows)
    assert {row.worker for row in rows if row.task_name == app.slow_square.name} == {worker_id(app, new)}


class Orders:
    """Jobs of both versions and of neither alone, stored while somebody waits for something else."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.ids: list[str] = []
        self._next = 0.0

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Go on until this is true."""
        wait_until(lambda: self._more() or condition(), 60, what)

    def _more(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 0.1
        common = self._order("common")
        packed = self._order("pack", depends_on=common)
        shipped = self._order("ship", depends_on=packed)
        self._order("pack", depends_on=[common, shipped])
        self._order("ship")

    def _order(self, task: str, **options: object) -> str:
        self.ids.append(self.queue.enqueue(f"shop.{task}", **options).id)
        return self.ids[-1]

    def rows(self) -> list[Job]:
        return self.queue.storage.get(self.ids)

    def slots(self, schedule: str) -> list[int]:
        """The seconds for which a schedule has fired, in order."""
        fired = self.queue.list_jobs(task_name=f"shop.{schedule}", limit=1000)
        return sorted(job.scheduled_at // 1000 for job in self.queue.storage.get([one.id for one in fired]))

    def check(self, starts: Counter[str], version_of: Mapping[int, str]) -> None:
        """Each ran once, in a worker that knows it, and nothing was charged for looking for one."""
        rows = self.rows()
        assert len(rows) == len(self.ids)
        assert {job.status for job in rows} == {JobStatus.COMPLETE}
        assert {starts[job.id] for job in rows} == {1}
        assert all(job.retry_count == job.crashes == job.interruptions == 0 for job in rows)
        assert self.queue.dead_letters() == []
        versions = {info.id: version_of[info.pid] for info in self.queue.workers()}
        ran = {(job.task_name, versions[job.worker]) for job in rows}
        assert ran == {
            ("shop.pack", "old"),
            ("shop.ship", "new"),
            ("shop.common", "old"),
            ("shop.common", "new"),
        }

    def check_slots(self, schedule: str, until: float) -> None:
        """It fired once for each second from its first on."""
        slots = self.slots(schedule)
        assert len(slots) == len(set(slots))
        assert set(range(slots[0], math.floor(until - SLOT_LATE) + 1)) <= set(slots)


@pytest.fixture
def start_fleet(start_worker: Callable[..., Worker], tmp_path: Path) -> Callable[[str], list[Worker]]:
    """``start_fleet("old")``: two workers of that version of the shop."""

    def start(version: str) -> list[Worker]:
        directory = tmp_path / version
        directory.mkdir(exist_ok=True)
        task, schedule = VERSIONS[version]
        (directory / "shop.py").write_text(SHOP.format(task=task, schedule=schedule))
        paths = os.pathsep.join(map(os.fspath, (directory, HERE)))
        fleet = [start_worker("--procs", "1", procs=0, app="shop:queue", PYTHONPATH=paths) for _ in range(2)]
        return [worker.ready(1) for worker in fleet]

    return start


def test_jobs_and_schedules_of_both_versions_survive_a_deploy_and_its_undoing(
    app: ModuleType, start_fleet: Callable[[str], list[Worker]]
) -> None:
    orders = Orders(app.queue)

    # The old fleet, then the new one beside it, then the new one alone.
    old = start_fleet("old")
    orders.until(lambda: len(orders.slots("count_stock")) >= 2, "the old schedule fires")
    new = start_fleet("new")
    both = len(orders.slots("count_stock")) + 2
    orders.until(lambda: len(orders.slots("send_bills")) >= 2, "the new schedule fires")
    orders.until(lambda: len(orders.slots("count_stock")) >= both, "the old schedule goes on")
    stopped = time.time()
    for worker in old:
        worker.signal(signal.SIGINT)
    orders.until(lambda: all(worker.exited() for worker in old), "the old fleet drains")
    alone = len(orders.slots("send_bills")) + 2
    orders.until(lambda: len(orders.slots("send_bills")) >= alone, "the new schedule goes on")

    # What only the old fleet knows waits for it, and its schedule is not forgotten.
    assert [worker.wait() for worker in old] == [0, 0]

    def packs() -> set[JobStatus]:
        return {job.status for job in orders.rows() if job.task_name == "shop.pack"}

    # A worker that meets the first of them hands it back to wait in a lane: so long it counts as running.
    wait_until(lambda: packs() == {JobStatus.COMPLETE, JobStatus.PENDING}, 30, "the new fleet leaves them")
    listed = {state.entry.name: state.enabled for state in app.queue.periodic_tasks()}
    assert listed == {"shop.count_stock": True, "shop.send_bills": True}

    # The deploy is undone, and what waited ends.
    back = start_fleet("old")
    wait_until(lambda: all(job.status.finished for job in orders.rows()), 60, "every order has ended")
    version_of = {worker.pid: "old" for worker in (*old, *back)} | {worker.pid: "new" for worker in new}
    orders.check(back[0].starts(), version_of)
    orders.check_slots("count_stock", stopped)
    orders.check_slots("send_bills", time.time())
