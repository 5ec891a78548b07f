"""Calls that come close together: ``debounce`` and ``throttle``, and the keys by which they belong."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from taskito import coerce
from taskito.client.options import job_options
from taskito.client.options.key_template import KeyTemplate, key_of
from taskito.serialization.serializers import Inputs
from taskito_core.errors import ConfigError

_KINDS = ("debounce", "throttle")
#: The options that this module reads.
NAMES = frozenset({*_KINDS, *(f"{kind}_key" for kind in _KINDS)})


class Spacing(NamedTuple):
    """How the calls of a task that have a key in common are spaced."""

    kind: str  #: ``debounce`` or ``throttle``
    seconds: float
    key: KeyTemplate | str  #: of this call, or of every call of the task

    def fields(
        self, args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs | None
    ) -> dict[str, Any]:
        """The fields of NewJob for this call. ConfigError if its key cannot be known yet."""
        key = self.key if isinstance(self.key, str) else self.key.key(args, kwargs, inputs)
        seconds = {"delay": self.seconds} if self.kind == "debounce" else {"window": self.seconds}
        return {"call_key": f"{self.kind}:{key}", **seconds}


def of_task(task_name: str, given: Mapping[str, Any], signature: inspect.Signature | None) -> Spacing | None:
    """What the options of a task say. Raises ConfigError."""
    found = _seconds(f"task {task_name!r}", given)
    if found is None:
        _refuse_lone_key(f"task {task_name!r}", given)
        return None
    kind, seconds = found
    return Spacing(kind, seconds, KeyTemplate(f"{kind}_key", task_name, given.get(f"{kind}_key"), signature))


def of_call(where: str, task_name: str, said: Mapping[str, Any], of_task: Spacing | None) -> Spacing | None:
    """The same of one call: it may say how long, the key as it is, or both; else as the task says."""
    if NAMES.isdisjoint(said):
        return of_task
    if any(said.get(kind, 0) is None for kind in _KINDS):
        return None
    found = _seconds(where, said)
    if found is None and of_task is not None:
        found = of_task.kind, of_task.seconds
    if found is None:
        _refuse_lone_key(where, said)
        return None
    kind, seconds = found
    if f"{kind}_key" in said:
        return Spacing(kind, seconds, key_of(task_name, job_options.name(f"{kind}_key", said[f"{kind}_key"])))
    if of_task is not None and of_task.kind == kind:
        return of_task._replace(seconds=seconds)
    return Spacing(kind, seconds, task_name)


def refuse_beside(where: str, spacing: Spacing, fields: Mapping[str, Any]) -> None:
    """ConfigError for options of a job that make no sense for one that stands for several calls."""
    others = {"unique_key": "unique_key"}
    if spacing.kind == "debounce":
        others |= {"delay": "delay", "scheduled_at": "eta", "parents": "depends_on"}
    for field, option in others.items():
        if field in fields:
            raise ConfigError(f"{where} was given both {spacing.kind} and {option}; say one of them")


def _seconds(where: str, given: Mapping[str, Any]) -> tuple[str, float] | None:
    """Which kind, and for how long; None: neither."""
    said = [kind for kind in _KINDS if given.get(kind) is not None]
    if len(said) == 2:
        raise ConfigError(f"{where} was given both debounce and throttle; say one of them")
    if not said:
        return None
    [kind] = said
    seconds = job_options.seconds(kind, given[kind])
    return kind, coerce.checked(kind, "a number of seconds above 0, or None", coerce.span, seconds)


def _refuse_lone_key(where: str, given: Mapping[str, Any]) -> None:
    for kind in _KINDS:
        if given.get(f"{kind}_key") is not None:
            raise ConfigError(f"{kind}_key of {where} needs {kind}: for how many seconds?")
