"""A rolling deploy whose new version sends what the old one cannot read: it is left to the new one."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskito import JobResult, JobStatus, Queue, TaskFailedError, chain, starmap
from taskito_core.job import DeadReason
from tests.faults.conftest import start_worker
from tests.faults.harness import Worker, wait_until

__all__ = ["start_worker"]

OLD = """
import time
from dataclasses import dataclass
from enum import Enum, Flag
from taskito import PickleSerializer, Queue

queue = Queue(default_retry=0)


class Colour(Enum):
    RED = 1


class Size(Flag):
    S = 1


@dataclass
class Order:
    number: int


@queue.task
def show(value):
    return repr(value)


@queue.task
def mix():
    return Colour.RED


@queue.task
def weigh(value):
    return len(value)


@queue.task(rate_limit="50/s")
def measured(value):
    return repr(value)


@queue.task
def fold(value):
    return value


@queue.task
async def ship(value):
    return value


@queue.task
def pack(value, width):
    return value


@queue.task
def nap(seconds):
    time.sleep(seconds)
"""
NEW = (
    OLD.replace("    RED = 1", "    RED = 1\n    BLUE = 2")
    .replace("    S = 1", "    S = 1\n    L = 2")
    .replace("    number: int", "    number: int\n    note: str = ''")
    .replace("    return Colour.RED", "    return Colour.BLUE")
    .replace("@queue.task\ndef weigh", "@queue.task(serializer=PickleSerializer('key'))\ndef weigh")
    .replace(
        "def fold(value):\n    return value",
        "def fold(value, *, twice=False):\n    return value * (1 + twice)",
    )
    .replace("def ship(value):\n    return value", "def ship(value, to='home'):\n    return value, to")
    .replace("def pack(value, width):", "def pack(value):")
    + "\n\n@dataclass\nclass Parcel:\n    size: int\n"
)
Start = Callable[..., Worker]


@pytest.fixture
def shop(backend_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The new version in this process, as a producer has it."""
    for version, text in (("old", OLD), ("new", NEW)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "shop.py").write_text(text)
    monkeypatch.setenv("TASKITO_DB_URL", backend_url)
    monkeypatch.syspath_prepend(tmp_path / "new")
    module = importlib.import_module("shop")
    with module.queue:
        yield module
    del sys.modules["shop"]


@pytest.fixture
def start(shop: ModuleType, start_worker: Start, tmp_path: Path) -> Start:
    """``start("old")``: a worker of that version, with one child."""

    def start(version: str, *arguments: str, **env: str) -> Worker:
        path = os.fspath(tmp_path / version)
        return start_worker(*arguments, procs=1, app="shop:queue", PYTHONPATH=path, **env)

    return start


def kinds(queue: Queue, job: JobResult[Any]) -> set[str]:
    return {str(one.kind) for one in queue.explain(job.id).blockers}


def tried(queue: Queue, job: JobResult[Any]) -> bool:
    return job.status is JobStatus.PENDING and "unreadable" in kinds(queue, job)


#: What is sent, what the new version makes of it, and what the old one says.
SENT: dict[str, tuple[Callable[[ModuleType], JobResult[Any]], object, str]] = {
    "an enum member": (
        lambda shop: shop.show.delay(shop.Colour.BLUE),
        "<Colour.BLUE: 2>",
        "the enum shop:Colour has no member 'BLUE'",
    ),
    "a field": (
        lambda shop: shop.show.delay(shop.Order(7, "soon")),
        "Order(number=7, note='soon')",
        "the dataclass shop:Order has no field note",
    ),
    "a class": (
        lambda shop: shop.show.delay([shop.Parcel(3)]),
        "[Parcel(size=3)]",
        "module shop has no class Parcel",
    ),
    "a flag": (
        lambda shop: shop.show.delay({shop.Size.L: 1}),
        "{<Size.L: 2>: 1}",
        "Size",
    ),
    "a member for a limited task": (
        lambda shop: shop.measured.delay(shop.Colour.BLUE),
        "<Colour.BLUE: 2>",
        "the enum shop:Colour has no member 'BLUE'",
    ),
    "a parameter": (
        lambda shop: shop.fold.delay(3, twice=True),
        6,
        "task shop.fold takes (value) here: got an",
    ),
    "a parameter of a coroutine": (
        lambda shop: shop.ship.delay("box", "office"),
        ("box", "office"),
        "task shop.ship takes (value) here: too many positional arguments",
    ),
    "a parameter less": (
        lambda shop: shop.pack.delay("box"),
        "box",
        "task shop.pack takes (value, width) here: missing a required argument: 'width'",
    ),
    "a parameter of many calls": (
        lambda shop: starmap(shop.ship, [("a", "b"), ("c", "d")]).apply(),
        [("a", "b"), ("c", "d")],
        "task shop.ship takes (value) here: too many positional arguments",
    ),
    "a serializer": (lambda shop: shop.weigh.delay("heavy"), 5, "cannot read b'taskito-pickle"),
}


@pytest.mark.parametrize(("send", "value", "problem"), SENT.values(), ids=SENT)
def test_what_only_the_new_version_can_read_is_left_to_it(
    shop: ModuleType, start: Start, send: Callable[..., JobResult[Any]], value: object, problem: str
) -> None:
    old = start("old")
    jobs = [send(shop) for _ in range(5)]
    common = [shop.show.delay(number) for number in range(5)]

    # The old worker alone: it goes on with what it can read, and says of the others why they wait.
    assert [job.result(30) for job in common] == list("01234")
    wait_until(lambda: all(tried(shop.queue, job) for job in jobs), 30, "the old worker leaves them")
    text = str(shop.queue.explain(jobs[0].id))
    assert problem in text
    assert "left to newer workers" in text
    assert problem in old.log.read_text()

    new = start("new")

    assert [job.result(30) for job in jobs] == [value] * 5
    rows = shop.queue.storage.get([job.id for job in jobs])
    assert all(row.crashes == row.retry_count == row.interruptions == 0 for row in rows)
    by_pid = {info.pid: info.id for info in shop.queue.workers()}
    assert {row.worker for row in rows} == {by_pid[new.pid]}
    assert shop.queue.dead_letters() == []
    # Once for each worker that met it, however often it did.
    assert [len(job.logs()) for job in jobs] == [1] * 5


def test_a_result_that_the_old_version_cannot_read_is_left_to_the_new_one(
    shop: ModuleType, start: Start
) -> None:
    start("new", "--queues", "default")
    steps = chain(shop.mix.s(), shop.show.s().set(queue="late")).apply()
    [mixed] = steps.dependencies
    assert JobResult(shop.queue, mixed).result(30) is shop.Colour.BLUE
    start("old", "--queues", "late")
    wait_until(lambda: tried(shop.queue, steps), 30, "the old worker leaves it")

    start("new", "--queues", "late")

    assert steps.result(30) == "<Colour.BLUE: 2>"


def test_a_job_that_no_live_worker_can_read_is_dead_after_a_while(shop: ModuleType, start: Start) -> None:
    start("old", TASKITO_UNREADABLE_TTL="1")
    job = shop.show.delay(shop.Colour.BLUE)

    with pytest.raises(TaskFailedError, match=r"no member 'BLUE'; no live worker could read it for 1 s"):
        job.result(60)

    [letter] = shop.queue.dead_letters()
    assert (letter.job_id, letter.reason) == (job.id, DeadReason.REJECTED)
    assert letter.retry_count == 0


def test_it_is_not_dead_while_a_live_worker_has_not_tried(shop: ModuleType, start: Start) -> None:
    start("new")
    busy = shop.nap.delay(12)
    wait_until(lambda: busy.refresh().status is JobStatus.RUNNING, 30, "the new worker is busy")
    start("old", TASKITO_UNREADABLE_TTL="1")

    job = shop.show.delay(shop.Colour.BLUE)

    assert job.result(60) == "<Colour.BLUE: 2>"
    assert tried_by(job) == 1


def test_with_no_time_to_wait_it_is_dead_at_once(shop: ModuleType, start: Start) -> None:
    start("old", TASKITO_UNREADABLE_TTL="0")

    with pytest.raises(TaskFailedError, match="no member 'BLUE'"):
        shop.show.delay(shop.Colour.BLUE).result(30)


def tried_by(job: JobResult[Any]) -> int:
    return len([entry for entry in job.logs() if "cannot read its arguments" in entry.message])
