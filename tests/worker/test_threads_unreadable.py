"""Arguments that a worker of threads cannot read, on every store, the memory of this process among them."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Any

import pytest

from taskito import JobStatus, Queue, TaskFailedError

from .conftest import LONG


class Colour(Enum):
    RED = 1
    BLUE = 2


class OldColour(Enum):
    RED = 1


def as_old_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "Colour", OldColour)


def declare(queue: Queue) -> Any:
    @queue.task(name="show")
    def show(value: object) -> str:
        return str(value)

    return show


def test_they_are_left_to_others_and_read_once_they_can_be(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, wait_until: Any
) -> None:
    show = declare(queue)
    job = show.delay(Colour.BLUE)
    with monkeypatch.context() as old:
        as_old_version(old)
        with queue.embedded_worker():
            assert show.delay(1).result(LONG) == "1"
            wait_until(lambda: "no member 'BLUE'; it is left to newer" in str(queue.explain(job.id)))
            assert job.status is JobStatus.PENDING

    with queue.embedded_worker():
        assert job.result(LONG) == "Colour.BLUE"

    [entry] = job.logs()
    assert "cannot read its arguments: the enum" in entry.message


def test_it_comes_to_an_end_if_nobody_can_read_them(
    backend_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Queue(db_url=backend_url, workers=2, default_retry=0, unreadable_ttl=0.5) as queue:
        job = declare(queue).delay(Colour.BLUE)
        as_old_version(monkeypatch)

        with queue.embedded_worker(), pytest.raises(TaskFailedError, match=r"no live worker .* for 0\.5 s"):
            job.result(LONG)

        [letter] = queue.dead_letters()
        assert letter.job_id == job.id
