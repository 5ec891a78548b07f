"""How many jobs of a task may run at once; or of one key, which is made of a call's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from taskito.client.options import job_options
from taskito.client.options.key_template import KeyTemplate
from taskito.serialization.serializers import Inputs
from taskito_core.errors import ConfigError


class Concurrency:
    """``concurrency``, ``concurrency_key`` and ``on_excess`` of one task."""

    def __init__(self, concurrency: object, key: KeyTemplate, on_excess: object) -> None:
        self.count = job_options.whole("concurrency", concurrency, 1)
        self.drop = _is_drop(on_excess)
        self._key = key

    def fields(
        self, args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs | None
    ) -> dict[str, Any]:
        """The fields of NewJob for this call. ConfigError if its key cannot be known yet."""
        return {
            "concurrency_key": self._key.key(args, kwargs, inputs),
            "concurrency": self.count,
            "drop_excess": self.drop,
        }


def read(task_name: str, given: Mapping[str, Any], signature: inspect.Signature | None) -> Concurrency | None:
    """The limit that the options of a task set; None: any number may run. Raises ConfigError."""
    concurrency, template = given.get("concurrency"), given.get("concurrency_key")
    on_excess = given.get("on_excess", "wait")
    if concurrency is None:
        if template is not None:
            raise ConfigError(f"concurrency_key of task {task_name!r} needs concurrency: how many per key?")
        if _is_drop(on_excess):
            raise ConfigError(f"on_excess='drop' of task {task_name!r} needs concurrency: in excess of what?")
        return None
    key = KeyTemplate("concurrency_key", task_name, template, signature)
    return Concurrency(concurrency, key, on_excess)


def _is_drop(on_excess: object) -> bool:
    return job_options.one_of("on_excess", on_excess, ("wait", "drop")) == "drop"
