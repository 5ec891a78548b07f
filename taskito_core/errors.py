"""Every exception taskito raises, and what each one means to its reader.

All of them derive from TaskitoError, except the three that are raised *inside* a running task from outside of
it: those are BaseExceptions, so that a task's ``except Exception`` cannot swallow the end of its own time.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection


class TaskitoError(Exception):
    """The root of everything taskito raises at its callers."""


class ConfigError(TaskitoError):
    """A setting, an option or an installation is wrong; nothing was stored or started."""


class StorageError(TaskitoError):
    """The store refused a request for a reason that trying again will not change."""


class StorageUnavailable(StorageError):
    """The store cannot be reached or does not answer now; the same call may succeed later."""


class SerializationError(TaskitoError):
    """A value cannot be turned into bytes, or bytes into a value; the message names its path."""


class PayloadTooLarge(TaskitoError):
    """A payload or a result is larger than ``max_payload`` allows."""


class QueueFull(TaskitoError):
    """A queue with a pending ceiling has no room for these jobs; nothing was stored."""


class JobNotFoundError(TaskitoError, KeyError):
    """No job has this id: it never existed, was deleted, or was pruned after its result_ttl."""

    def __str__(self) -> str:
        # KeyError's own str() is the repr of its argument, which would quote a whole sentence.
        return str(self.args[0]) if self.args else ""


class TaskFailedError(TaskitoError):
    """The job ended in the dead letter; carries what the task raised, as text."""

    def __init__(self, message: str, *, type_name: str = "", remote_traceback: str | None = None) -> None:
        super().__init__(message)
        self.type_name = type_name  #: the remote exception's class name, e.g. ``ValueError``
        self.remote_traceback = remote_traceback  #: its formatted traceback, if one was recorded


class MaxRetriesExceededError(TaskFailedError):
    """The job failed once more than its retries allowed."""


class TaskTimeoutError(TaskitoError):
    """The job's last attempt ran longer than its timeout."""


class TaskCancelledError(TaskitoError):
    """The job was cancelled before it could complete."""


class JobCancelled(BaseException):
    """Raised inside a task whose job was asked to cancel; letting it through ends the job as cancelled."""


class SoftTimeoutError(BaseException):
    """Raised inside a task whose ``soft_timeout`` has passed; raised again each second while ignored."""


class WorkerShutdown(BaseException):
    """Raised inside a task that its worker cannot wait for any longer; the job goes back, uncharged."""


def not_found(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(f"there is no job {job_id!r}: it never existed, or was pruned")


def did_you_mean(name: object, known: Collection[str]) -> str:
    """``; did you mean 'x'?`` with the known names that end alike, after their last dot; '' if none does."""
    end, ends = str(name).rpartition(".")[2], {one: one.rpartition(".")[2] for one in sorted(known)}
    close = [end] if end in ends.values() else difflib.get_close_matches(end, set(ends.values()), 3, 0.7)
    meant = [one for like in close for one in ends if ends[one] == like][:3]
    return f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""
