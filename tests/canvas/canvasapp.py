"""The app of the canvas tests with real workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from taskito import Queue, chord

queue = Queue()


@queue.task
def square(number: int) -> int:
    killed = Path(os.environ["KILLED"])
    if number == 3 and not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@queue.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@queue.task
def add(number: int, more: int) -> int:
    return number + more


@queue.task(max_retries=0)
def invert(number: int) -> float:
    if not Path(os.environ["MENDED"]).exists():
        raise ZeroDivisionError("there is no inverse")
    return 1 / number


if __name__ == "__main__":
    print(chord([square.s(number) for number in range(20)], total.s()).apply().id)
