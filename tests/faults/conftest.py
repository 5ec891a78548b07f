"""Fixtures of the fault tests: a queue on each backend, and workers that are always cleaned up."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.faults.clock import SetClock
from tests.faults.harness import HERE, Worker


@pytest.fixture
def start_worker(tmp_path: Path, backend_url: str) -> Iterator[Callable[..., Worker]]:
    """``start_worker("--procs", "2", procs=2)``: a worker with that many children up."""
    workers: list[Worker] = []

    def start(
        *arguments: str, procs: int = 2, url: str = backend_url, app: str = "faultapp:queue", **env: str
    ) -> Worker:
        worker = Worker(url, tmp_path, "--procs", str(procs), *arguments, app=app, **env)
        workers.append(worker)
        worker.start()
        return worker.ready(procs) if procs else worker

    yield start
    for worker in workers:
        worker.kill_everything()


@pytest.fixture
def app(backend_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The fault app in this process, as a producer sees it: ``app.nap.delay(1)``, ``app.queue``."""
    monkeypatch.setenv("TASKITO_DB_URL", backend_url)
    monkeypatch.setenv("JOURNAL", os.fspath(tmp_path / "journal"))
    with load(HERE / "faultapp.py") as module:
        yield module


@pytest.fixture
def clock(tmp_path: Path) -> SetClock:
    """Sets the store's clock of the workers that are started with ``clock.env``."""
    return SetClock(tmp_path)


@pytest.fixture
def clock_app(
    backend_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SetClock
) -> Iterator[ModuleType]:
    """The app of ``clock`` in this process, with the true time until its ``storage.clock_shift`` is set."""
    monkeypatch.setenv("TASKITO_DB_URL", backend_url)
    monkeypatch.setenv("JOURNAL", os.fspath(tmp_path / "journal"))
    monkeypatch.syspath_prepend(os.fspath(HERE))
    with load(HERE / "clockapp.py") as module:
        yield module


@contextlib.contextmanager
def load(path: Path) -> Iterator[ModuleType]:
    """The app in this file, in this process, with the settings of this moment; closed at the end."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.queue:
        yield module
