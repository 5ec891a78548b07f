"""Fixtures of the tests of features: the app as a producer sees it, and real workers that run it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.faults.conftest import load, start_worker
from tests.faults.harness import Worker

__all__ = ["start_worker"]

LONG = 60.0  #: seconds that are never reached


@pytest.fixture
def app(backend_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """``app.nap.delay(1)``, ``app.queue``: the app in this process, on an empty store."""
    monkeypatch.setenv("TASKITO_DB_URL", backend_url)
    monkeypatch.setenv("JOURNAL", os.fspath(tmp_path / "journal"))
    with load(Path(__file__).with_name("jobsapp.py")) as module:
        yield module


@pytest.fixture
def start(start_worker: Callable[..., Worker]) -> Callable[..., Worker]:
    """``start(procs=2)``: a worker of the app."""
    return functools.partial(start_worker, app="jobsapp:queue")
