"""Jobs and dead letters as people are shown them: values that JSON can hold."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from typing import Any, Protocol

from taskito.config.text import show_moments
from taskito.serialization.serializers import Serializer
from taskito.serialization.shown import Parameters, show_call, show_mapping, show_result
from taskito_core.job import DeadLetter, Job

#: Fields that are not shown, or not as they are: bytes that only a serializer can read, and the fence.
_NOT_SHOWN = frozenset({"payload", "result", "token", "cancel_asked"})
#: Fields that are called something else.
_SHOWN_AS = {"gate": "waits_behind"}


class TaskReader(Protocol):
    """What is known of the task of a job: the queue."""

    def serializer_of(self, task_name: str, /) -> Serializer: ...

    def parameters_of(self, task_name: str, /) -> Parameters: ...


def show_job(reader: TaskReader, job: Job) -> dict[str, Any]:
    """Its columns, arguments and result."""
    result = None if job.result is None else show_result(reader.serializer_of(job.task_name), job.result)
    return _shown(reader, job) | {"result": result}


def show_letter(reader: TaskReader, letter: DeadLetter) -> dict[str, Any]:
    """Its columns and arguments."""
    return _shown(reader, letter)


def _shown(reader: TaskReader, record: Job | DeadLetter) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(record) if field.name not in _NOT_SHOWN]
    serializer, parameters = reader.serializer_of(record.task_name), reader.parameters_of(record.task_name)
    call = show_call(serializer, record.payload, parameters)
    values = {_SHOWN_AS.get(name, name): _plain(getattr(record, name)) for name in names}
    return show_moments(values) | {
        "metadata": show_mapping(read_metadata(record)),
        "tags": list(record.tags),
        "args": call.args,
        "kwargs": call.kwargs,
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value


def read_metadata(record: Job | DeadLetter) -> dict[str, Any]:
    """What its producer gave."""
    return json.loads(record.metadata) if record.metadata else {}
