"""A queue whose jobs run in threads here, and middleware that writes down what it is called with."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from taskito import AttemptError, JobContext, Queue, TaskMiddleware

LONG = 60.0  #: seconds that are never reached

Calls = list[str]


class Journal(TaskMiddleware):
    """Writes ``what name`` for each call."""

    def __init__(self, name: str, calls: Calls) -> None:
        self.name = name
        self.calls = calls

    def before(self, ctx: JobContext) -> None:
        self.calls.append(f"before {self.name}")

    def after(self, ctx: JobContext, result: Any, error: BaseException | None) -> None:
        ended = repr(result) if error is None else type(error).__name__
        self.calls.append(f"after {self.name}: {ended}")

    def on_retry(self, ctx: JobContext, error: AttemptError, retry_count: int) -> None:
        self.calls.append(f"retry {self.name}: {error.type} {retry_count}")

    def on_enqueue(self, options: MutableMapping[str, Any]) -> None:
        self.calls.append(f"enqueue {self.name}")


@pytest.fixture
def calls() -> Calls:
    """What was called, in that order."""
    return []


@pytest.fixture
def queue(tmp_path: Path, calls: Calls) -> Iterator[Queue]:
    """A queue with two middleware, ``one`` and ``two``, on a file of SQLite."""
    middleware = [Journal("one", calls), Journal("two", calls)]
    with Queue(tmp_path / "jobs.db", default_retry=0, middleware=middleware) as queue:
        yield queue
