"""What stands for a result that is missing. It is here because results and arguments may hold it."""

from __future__ import annotations

from typing import NamedTuple


class FailedMember(NamedTuple):
    """Stands for the result that a job of a group does not have, in a chord with ``on_error="collect"``."""

    job_id: str
    task_name: str
    status: str
    error: str | None


FailedMember.__module__ = "taskito"
