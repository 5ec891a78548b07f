"""The record of one attempt, and which one runs here and now.

It is kept in a context variable: each coroutine sees its own, and a thread sees it if it is started with
a copied context (``asyncio.to_thread`` copies; ``contextvars.copy_context().run`` does it by hand).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from taskito.serialization.serializers import Serializer


class Controls(Protocol):
    """What a running job can ask of the process or thread it runs in. Any thread may call."""

    def cancel_asked(self) -> bool:
        """Was this job asked to cancel?"""
        ...

    @property
    def serializer(self) -> Serializer:
        """Of the job's task."""
        ...

    def note(self, note: list[Any]) -> None:
        """Have this stored, soon and before the job's outcome; see ``job_log``."""
        ...

    def complete_in(self, connection: object, value: object) -> None:
        """Record the job's completion on this connection; StorageError: the job is another's by now."""
        ...


class NoControls:
    """For a job that runs without a worker: nothing is asked of it, and its notes are dropped."""

    def __init__(self, serializer: Serializer | None = None) -> None:
        self._serializer = serializer

    @property
    def serializer(self) -> Serializer:
        if self._serializer is None:
            # Not at import: a supervisor makes contexts, and serializes nothing.
            from taskito.serialization.serializers import DEFAULT

            return DEFAULT
        return self._serializer

    def cancel_asked(self) -> bool:
        return False

    def note(self, note: list[Any]) -> None:
        pass

    def complete_in(self, connection: object, value: object) -> None:
        raise RuntimeError("complete_in() needs a worker: this job runs without one")


NO_CONTROLS = NoControls()


@dataclass(slots=True)
class JobContext:
    """One attempt, as the task that runs in it sees it."""

    id: str
    task_name: str
    queue_name: str
    retry_count: int  #: failed attempts before this one
    token: int  #: a fencing token: a later attempt of any job has another one
    metadata: dict[str, Any] = field(default_factory=dict)
    controls: Controls = field(default=NO_CONTROLS, repr=False)
    soft_deadline: float | None = None  #: ``time.monotonic()`` at which its soft limit passes; None: never
    #: what one hook of this attempt leaves for a later one
    state: dict[str, Any] = field(default_factory=dict)
    uncharged: int = 0  #: attempts before this one that no retry was charged for: crashes and interruptions

    @property
    def attempt(self) -> int:
        """Which attempt it is, from 1 on: as the worker's log and the job's errors count."""
        return self.retry_count + self.uncharged + 1


JobContext.__module__ = "taskito"

#: Whether coroutines that are started in this context go on when the job has ended.
KEPT: ContextVar[bool] = ContextVar("taskito_kept", default=False)

_current: ContextVar[JobContext | None] = ContextVar("taskito_current_job", default=None)


def current() -> JobContext | None:
    """The context of the job that runs here and now; None: none does."""
    return _current.get()


def current_in(context: Context) -> JobContext | None:
    """The same of code that runs in this context."""
    return context.get(_current)


def enter(context: JobContext) -> Token[JobContext | None]:
    """Make ``context`` the current one, until ``leave`` is given the token that this returns."""
    return _current.set(context)


def leave(token: Token[JobContext | None]) -> None:
    """Undo ``enter``."""
    _current.reset(token)


@contextmanager
def entered(context: JobContext) -> Iterator[JobContext]:
    """Inside, ``current_job`` is ``context``."""
    token = enter(context)
    try:
        yield context
    finally:
        leave(token)
