"""The first and friendliest failures: is everything there, and shaped as the contract says?"""

from __future__ import annotations

import inspect

from taskito_core.storage import Capability, Storage
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.opening import contract_methods, missing_methods, open_storage


class Surface(ConformanceBase):
    def test_every_method_of_the_contract_is_there(self, storage: Storage) -> None:
        assert missing_methods(storage) == []

    def test_every_method_takes_the_arguments_of_the_contract(self, storage: Storage) -> None:
        for name in contract_methods():
            promised = list(inspect.signature(getattr(Storage, name)).parameters)[1:]
            offered = list(inspect.signature(getattr(storage, name)).parameters)
            assert offered[: len(promised)] == promised, name

    def test_capabilities_are_a_frozenset_of_known_ones(self, storage: Storage) -> None:
        assert isinstance(storage.capabilities, frozenset)
        assert storage.capabilities <= set(Capability)

    def test_the_clock_is_not_shifted_unless_a_test_says_so(self, storage: Storage) -> None:
        assert storage.clock_shift == 0

    def test_constructing_a_storage_does_no_io(self, unreachable_url: str) -> None:
        storage = open_storage(unreachable_url)

        storage.close()

    def test_wakeups_have_all_of_their_methods(self, storage: Storage, worker: str) -> None:
        wakeups = storage.listen(worker, ["default"])

        assert all(callable(getattr(wakeups, name, None)) for name in ("wait", "interrupt", "close"))
        wakeups.close()
