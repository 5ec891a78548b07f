"""A queue with the tasks that canvases are made of: on each backend in turn, or in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from taskito import PickleSerializer, Queue
from tests.client.conftest import queue, work

__all__ = ["queue", "work"]


def declare(queue: Queue) -> SimpleNamespace:
    """``tasks.add.s(1, 2)``."""

    @queue.task(name="add")
    def add(left: int, right: int) -> int:
        return left + right

    @queue.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @queue.task(name="show")
    def show(*args: Any, **kwargs: Any) -> str:
        return repr((*args, *kwargs.items()))

    @queue.task(name="fail", max_retries=0)
    def fail(*args: Any) -> None:
        raise ValueError("on purpose")

    @queue.task(name="pickled", serializer=PickleSerializer("k"))
    def pickled(value: complex) -> complex:
        return value * 1j

    @queue.task(name="book", concurrency=1, concurrency_key="account:{account}")
    def book(account: Any, amount: int = 0) -> int:
        return amount

    return SimpleNamespace(add=add, total=total, show=show, fail=fail, pickled=pickled, book=book)


@pytest.fixture
def tasks(queue: Queue) -> SimpleNamespace:
    return declare(queue)


@pytest.fixture
def run(work: Callable[..., Any]) -> Callable[[], None]:
    """Run what is due until nothing is."""

    def run() -> None:
        while work():
            pass

    return run


@pytest.fixture
def stored() -> Iterator[SimpleNamespace]:
    """The tasks of a queue whose jobs stay in memory and do not run: ``stored.queue``, ``stored.add``."""
    with Queue(db_url="postgresql://nobody@127.0.0.1:1/nowhere") as queue, queue.test_mode(run=False):
        tasks = declare(queue)
        tasks.queue = queue
        yield tasks
