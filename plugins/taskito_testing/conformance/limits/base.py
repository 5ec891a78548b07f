"""What the suites of limiters and breakers stand on: fixtures that grow from one URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from taskito_core.errors import StorageUnavailable
from taskito_testing.conformance.processes import Actors
from taskito_testing.conformance.suite import Suite
from taskito_testing.opening import unreachable_variant

_ACTOR = Path(__file__).with_name("actor.py")


class LimitsSuite(Suite):
    """The input is ``limits_url``; ``open_keeper`` and ``calls`` say what is under test."""

    #: How many random sequences are compared with the one in memory. They are the same ones in every run.
    model_examples: ClassVar[int] = 15
    #: What opens it from a URL, a schema and further fields of StorageConfig.
    open_keeper: ClassVar[Callable[..., Any]]
    #: Every call of the contract that needs the shared state.
    calls: ClassVar[dict[str, Callable[[Any], object]]]

    @pytest.fixture
    def limits_url(self) -> str:
        """A URL of an EMPTY place for this one test, as the settings name it. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture limits_url")

    @pytest.fixture
    def limits_schema(self) -> str:
        """The schema to use there. Override it only to share one database between tests."""
        return "taskito"

    @pytest.fixture
    def unreachable_url(self, limits_url: str) -> str:
        """A URL at which nothing can be reached. Override it if the URL has no port."""
        url = unreachable_variant(limits_url)
        if url is None:
            pytest.skip("the URL names no server and port, so the suite cannot make an unreachable one of it")
        return url

    @pytest.fixture
    def connect(self, limits_url: str, limits_schema: str) -> Iterator[Callable[[], Any]]:
        """Opens one more object on the state under test; it is closed when the test ends."""
        opened: list[Any] = []

        def connect() -> Any:
            opened.append(type(self).open_keeper(limits_url, limits_schema))
            return opened[-1]

        yield connect
        for keeper in opened:
            keeper.close()

    @pytest.fixture
    def processes(self, limits_url: str, limits_schema: str) -> Iterator[Actors]:
        """Starts other processes that share the state; none outlives the test."""
        if self.single_process:
            pytest.skip("this one lives inside one process: there is no other process to share it with")
        with Actors(limits_url, limits_schema, _ACTOR) as actors:
            yield actors

    @pytest.fixture
    def lone_process(self, limits_url: str, limits_schema: str) -> Iterator[Actors]:
        """Starts processes that share nothing with this one, so any kind can be used in them."""
        with Actors(limits_url, limits_schema, _ACTOR) as actors:
            yield actors

    def test_every_method_of_the_contract_is_there(self, connect: Callable[[], Any]) -> None:
        keeper = connect()

        assert keeper.clock_shift == 0
        assert [name for name in (*self.calls, "close") if not callable(getattr(keeper, name, None))] == []

    def test_opening_does_no_io(self, unreachable_url: str) -> None:
        keeper = type(self).open_keeper(unreachable_url)

        keeper.close()
        keeper.close()

    def test_state_that_cannot_be_reached_is_unavailable_and_says_why(self, unreachable_url: str) -> None:
        keeper = type(self).open_keeper(unreachable_url)
        try:
            for name, call in self.calls.items():
                with pytest.raises(StorageUnavailable) as caught:
                    call(keeper)
                assert isinstance(caught.value.__cause__, Exception), name
                assert str(caught.value), name
        finally:
            keeper.close()
