"""What every topic of the storage suite stands on: fixtures that grow from one URL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from taskito_core.storage import Capability, Storage
from taskito_testing.conformance.processes import Actors
from taskito_testing.conformance.suite import Suite
from taskito_testing.factories import make_worker
from taskito_testing.opening import open_storage, unreachable_variant

#: Seconds after which a test that waits for another thread or process gives up. Only failures pay it.
PATIENCE = 30.0


class Connect(Protocol):
    """Opens one more connection to the store under test; it is closed when the test ends."""

    def __call__(self, **options: Any) -> Storage: ...


class NewWorker(Protocol):
    """Registers a worker and returns its id; keywords replace fields of its ``WorkerInfo``."""

    def __call__(self, **overrides: Any) -> str: ...


class ConformanceBase(Suite):
    """The input of the suite is ``storage_url``; everything else here is made from it."""

    @pytest.fixture
    def storage_url(self) -> str:
        """The URL of an EMPTY database for this one test; the suite migrates it. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture storage_url")

    @pytest.fixture
    def storage_schema(self) -> str:
        """The schema to use in that database. Override it only to share one database between tests."""
        return "taskito"

    @pytest.fixture
    def unreachable_url(self, storage_url: str) -> str:
        """A URL of this backend at which no store can be reached. Override it if the URL has no port."""
        url = unreachable_variant(storage_url)
        if url is None:
            pytest.skip("the URL names no server and port, so the suite cannot make an unreachable one of it")
        return url

    @pytest.fixture
    def connect(self, storage_url: str, storage_schema: str) -> Iterator[Connect]:
        opened: list[Storage] = []

        def connect(**options: Any) -> Storage:
            opened.append(open_storage(storage_url, storage_schema, **options))
            return opened[-1]

        yield connect
        for storage in opened:
            storage.close()

    @pytest.fixture
    def storage(self, connect: Connect) -> Storage:
        return connect()

    @pytest.fixture
    def new_worker(self, storage: Storage) -> NewWorker:
        def new_worker(**overrides: Any) -> str:
            worker = make_worker(**overrides)
            storage.register(worker)
            return worker.id

        return new_worker

    @pytest.fixture
    def worker(self, new_worker: NewWorker) -> str:
        """The id of a registered worker."""
        return new_worker()

    @pytest.fixture
    def other(self, new_worker: NewWorker) -> str:
        """The id of a second registered worker."""
        return new_worker()

    @pytest.fixture
    def processes(self, storage_url: str, storage_schema: str) -> Iterator[Actors]:
        """Starts other processes that use the same store; none outlives the test."""
        if self.single_process:
            pytest.skip("this store lives inside one process: there is no other process to share it with")
        with Actors(storage_url, storage_schema) as actors:
            yield actors

    @pytest.fixture
    def lone_process(self, storage_url: str, storage_schema: str) -> Iterator[Actors]:
        """Starts processes that share nothing with this one, so any store can be used in them."""
        with Actors(storage_url, storage_schema) as actors:
            yield actors

    @pytest.fixture
    def raw_connect(self, storage: Storage) -> Callable[[], Any]:
        """Opens a connection of the driver's own to the store's database, as an application would.

        Override it if the storage claims EXTERNAL_TRANSACTIONS. The connection must have ``execute``,
        ``commit`` and ``rollback``, and begin transactions by itself; the fixture closes it in the end.
        """
        if Capability.EXTERNAL_TRANSACTIONS in storage.capabilities:
            pytest.skip("EXTERNAL_TRANSACTIONS is claimed, but the fixture raw_connect is not overridden")
        pytest.skip("this storage does not claim EXTERNAL_TRANSACTIONS")

    @pytest.fixture
    def needs_wakeups(self, storage: Storage) -> None:
        if Capability.WAKEUPS not in storage.capabilities:
            pytest.skip("this storage does not claim WAKEUPS: its waits may end late")


def wait_until(predicate: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Return as soon as ``predicate`` is true; fail after ``timeout`` seconds."""
    give_up = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < give_up, f"still not so after {timeout} s"
        time.sleep(0.005)
