"""What a task can know about its own run: ``current_job``.

The context lives in a context variable, so coroutines see their own, and threads see it
when they are started with a copied context (``asyncio.to_thread`` copies;
``contextvars.copy_context().run`` does it by hand).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class JobContext:
    """One attempt, as the task that runs in it sees it."""

    id: str
    task_name: str
    queue_name: str
    retry_count: int  #: failed attempts before this one
    token: int  #: a fencing token: a later attempt of any job has another one
    metadata: dict[str, Any] = field(default_factory=dict)
    #: what one hook of this attempt leaves for a later one
    state: dict[str, Any] = field(default_factory=dict)


JobContext.__module__ = "taskito"

_current: ContextVar[JobContext] = ContextVar("taskito_current_job")


def enter(context: JobContext) -> Token[JobContext]:
    """Make ``context`` the current one; give the answer to ``leave``."""
    return _current.set(context)


def leave(token: Token[JobContext]) -> None:
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


class CurrentJob:
    """Stands for the job that runs here and now. Outside a task every use raises RuntimeError."""

    __slots__ = ()

    @property
    def context(self) -> JobContext:
        """The record behind this name: keep it if it has to outlive the task."""
        try:
            return _current.get()
        except LookupError:
            raise RuntimeError(
                "current_job is only there inside a running task; a thread that a task starts sees it "
                "if it runs in a copy of the task's context (contextvars.copy_context)"
            ) from None

    @property
    def id(self) -> str:
        """The job's id: the same in every attempt, so a key that makes effects idempotent."""
        return self.context.id

    @property
    def task_name(self) -> str:
        return self.context.task_name

    @property
    def queue_name(self) -> str:
        return self.context.queue_name

    @property
    def retry_count(self) -> int:
        """Failed attempts before this one."""
        return self.context.retry_count

    @property
    def token(self) -> int:
        """A fencing token: no other attempt has it."""
        return self.context.token

    @property
    def metadata(self) -> dict[str, Any]:
        """What ``enqueue(metadata=...)`` was given; changing it changes nothing stored."""
        return self.context.metadata

    def __bool__(self) -> bool:
        """True inside a task; the one question that may be asked anywhere."""
        return _current.get(None) is not None

    def __repr__(self) -> str:
        context = _current.get(None)
        return f"<current_job {context!r}>" if context else "<current_job: not inside a task>"


CurrentJob.__module__ = "taskito"

#: The job that runs here and now.
current_job = CurrentJob()
