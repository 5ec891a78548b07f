"""When the store cannot be reached: one class of exception, with the driver's inside it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from taskito_core.errors import StorageUnavailable
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import make_job, make_worker, want
from taskito_testing.opening import open_storage

_CALLS: dict[str, Callable[[Storage], object]] = {
    "migrate": lambda storage: storage.migrate(),
    "pending_migrations": lambda storage: storage.pending_migrations(),
    "info": lambda storage: storage.info(),
    "enqueue": lambda storage: storage.enqueue([make_job()]),
    "register": lambda storage: storage.register(make_worker()),
    "exchange": lambda storage: storage.exchange("nobody", [], want(1)),
    "heartbeat": lambda storage: storage.heartbeat("nobody", []),
    "rescue": lambda storage: storage.rescue({}),
    "unregister": lambda storage: storage.unregister("nobody"),
    "prune": lambda storage: storage.prune(1),
    "get": lambda storage: storage.get(["nobody"]),
    "await_finished": lambda storage: storage.await_finished("nobody", 0.1),
    "await_any": lambda storage: storage.await_any(["nobody"], 0.1, threading.Event()),
    "list_jobs": lambda storage: storage.list_jobs(JobFilter(), 1, None),
    "counts": lambda storage: storage.counts(),
    "errors": lambda storage: storage.errors("nobody"),
    "dead_letters": lambda storage: storage.dead_letters(1, None),
    "letters": lambda storage: storage.letters(["nobody"]),
    "workers": lambda storage: storage.workers(),
}


class Errors(ConformanceBase):
    @pytest.mark.parametrize("call", list(_CALLS))
    def test_a_store_that_cannot_be_reached_is_unavailable_and_says_why(
        self, unreachable_url: str, call: str
    ) -> None:
        storage = open_storage(unreachable_url)
        try:
            with pytest.raises(StorageUnavailable) as caught:
                _CALLS[call](storage)
        finally:
            storage.close()

        assert isinstance(caught.value.__cause__, Exception)
        assert str(caught.value)

    def test_an_unreachable_store_stays_closable(self, unreachable_url: str) -> None:
        storage = open_storage(unreachable_url)
        with pytest.raises(StorageUnavailable):
            storage.counts()

        storage.close()
        storage.close()
