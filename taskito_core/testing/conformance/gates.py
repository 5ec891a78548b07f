"""What the suites of limiters and breakers stand on: fixtures that grow from one URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from taskito_core.errors import StorageUnavailable
from taskito_core.testing.conformance.processes import Actors
from taskito_core.testing.conformance.suite import Suite
from taskito_core.testing.opening import unreachable_variant

_ACTOR = Path(__file__).with_name("gates_actor.py")


class GateSuite(Suite):
    """The input is ``gate_url``; ``open_gate`` and ``calls`` say what is under test."""

    #: How many random sequences are compared with the one in memory. They are the same ones in every run.
    model_examples: ClassVar[int] = 15
    #: What opens it from a URL, a schema and further fields of StorageConfig.
    open_gate: ClassVar[Callable[..., Any]]
    #: Every call of the contract that needs the shared state.
    calls: ClassVar[dict[str, Callable[[Any], object]]]

    @pytest.fixture
    def gate_url(self) -> str:
        """A URL of an EMPTY place for this one test, as the settings name it. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture gate_url")

    @pytest.fixture
    def gate_schema(self) -> str:
        """The schema to use there. Override it only to share one database between tests."""
        return "taskito"

    @pytest.fixture
    def unreachable_url(self, gate_url: str) -> str:
        """A URL at which nothing can be reached. Override it if the URL has no port."""
        url = unreachable_variant(gate_url)
        if url is None:
            pytest.skip("the URL names no server and port, so the suite cannot make an unreachable one of it")
        return url

    @pytest.fixture
    def connect(self, gate_url: str, gate_schema: str) -> Iterator[Callable[[], Any]]:
        """Opens one more object on the state under test; it is closed when the test ends."""
        opened: list[Any] = []

        def connect() -> Any:
            opened.append(type(self).open_gate(gate_url, gate_schema))
            return opened[-1]

        yield connect
        for gate in opened:
            gate.close()

    @pytest.fixture
    def processes(self, gate_url: str, gate_schema: str) -> Iterator[Actors]:
        """Starts other processes that share the state; none outlives the test."""
        if self.single_process:
            pytest.skip("this one lives inside one process: there is no other process to share it with")
        with Actors(gate_url, gate_schema, _ACTOR) as actors:
            yield actors

    @pytest.fixture
    def lone_process(self, gate_url: str, gate_schema: str) -> Iterator[Actors]:
        """Starts processes that share nothing with this one, so any kind can be used in them."""
        with Actors(gate_url, gate_schema, _ACTOR) as actors:
            yield actors

    def test_every_method_of_the_contract_is_there(self, connect: Callable[[], Any]) -> None:
        gate = connect()

        assert gate.clock_shift == 0
        assert [name for name in (*self.calls, "close") if not callable(getattr(gate, name, None))] == []

    def test_opening_does_no_io(self, unreachable_url: str) -> None:
        gate = type(self).open_gate(unreachable_url)

        gate.close()
        gate.close()

    def test_state_that_cannot_be_reached_is_unavailable_and_says_why(self, unreachable_url: str) -> None:
        gate = type(self).open_gate(unreachable_url)
        try:
            for name, call in self.calls.items():
                with pytest.raises(StorageUnavailable) as caught:
                    call(gate)
                assert isinstance(caught.value.__cause__, Exception), name
                assert str(caught.value), name
        finally:
            gate.close()
