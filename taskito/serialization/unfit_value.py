"""What is said of a value that cannot be written."""

from __future__ import annotations

from taskito_core.errors import SerializationError


class UnfitValue(SerializationError):
    """A value that has no form in JSON; ``path`` leads to it, ``problem`` says why and what to do."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps: list[str] = []  #: innermost first

    @property
    def path(self) -> str:
        """Such as ``[1].owner``, relative to the value that was to be written."""
        return "".join(reversed(self.steps))

    def __str__(self) -> str:
        return f"cannot serialise value{self.path}: {self.problem}"
