"""What every suite stands on: the house rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings


class Suite:
    """The rules of every suite: no test is overridden, and known failures are strict."""

    #: Test name -> reason. Each is a strict expected failure: once it passes it must go from here.
    known_failures: ClassVar[Mapping[str, str]] = {}
    #: True for what lives inside one process: tests with several processes are then skipped.
    single_process: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _refuse_overridden_tests(cls)
        unknown = [name for name in cls.known_failures if not hasattr(cls, name)]
        if unknown:
            raise TypeError(
                f"known_failures of {cls.__name__} names no test of the suite: {', '.join(unknown)}"
            )

    @pytest.fixture(autouse=True)
    def _expect_known_failures(self, request: pytest.FixtureRequest) -> None:
        name = getattr(request.node, "originalname", request.node.name)
        if name in self.known_failures:
            request.applymarker(pytest.mark.xfail(strict=True, reason=self.known_failures[name]))


def same_in_every_run(examples: int, *, shrinks: bool = False, **options: Any) -> settings:
    """How random sequences of calls are tried: so many, each as fast as the store is, none remembered."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if shrinks else [])],
        **options,
    )


def _refuse_overridden_tests(cls: type) -> None:
    """A redefined test is a silent hole; ``known_failures`` is the only way round a test."""
    seen: dict[str, type] = {}
    for base in cls.__mro__:
        for name in vars(base):
            if not name.startswith("test"):
                continue
            if name in seen:
                raise TypeError(
                    f"{seen[name].__name__}.{name} hides the test of the same name in {base.__name__};"
                    " list it in known_failures with a reason instead"
                )
            seen[name] = base
