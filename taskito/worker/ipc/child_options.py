"""The options of a worker's child processes: one record, from the command line to the child that obeys it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass

from taskito_core.errors import ConfigError

#: Jobs of ``async def`` tasks that one child of ``taskito worker`` runs beside each other by default. So few
#: that an app's pools of connections and other people's servers bear it, should nobody have thought of them.
ASYNC_CONCURRENCY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """The options of ``taskito worker`` that concern its children; each child receives all of them."""

    log_level: str = "info"
    log_format: str = "text"
    max_jobs: int | None = None  #: jobs after which a child is replaced, give or take a tenth; None: never
    async_concurrency: int = 1  #: jobs of ``async def`` tasks that one child may be inside of at once
    threads: int = 1  #: the same of other tasks; more than 1: each in a thread of its own

    @property
    def jobs_at_once(self) -> int:
        """How many jobs a child may be inside of, of both kinds together."""
        return self.async_concurrency + (self.threads if self.threads > 1 else 0)

    def to_argument(self) -> str:
        """One word of a command line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_argument(cls, word: str) -> ChildOptions:
        """Raises ConfigError for anything that ``to_argument`` does not write."""
        try:
            return cls(**json.loads(word))
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"expected the options of a child as JSON, got {word!r}: {exc}") from None


class Lifespan:
    """When a child has done enough, by its options, and is to be replaced."""

    def __init__(self, options: ChildOptions, rng: Callable[[], float]) -> None:
        """``rng`` gives numbers from 0 to 1: children that start together must not all end together."""
        spread = 0.9 + 0.2 * rng()
        self._max_jobs = None if options.max_jobs is None else max(1, round(options.max_jobs * spread))

    def is_over(self, jobs: int) -> bool:
        """Asked after each job; ``jobs``: how many the child has run."""
        return self._max_jobs is not None and jobs >= self._max_jobs
