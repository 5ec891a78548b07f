"""How many jobs of a task may run at once, and of which: the key a call's arguments make."""

from __future__ import annotations

import inspect
import string
from collections.abc import Mapping, Sequence
from typing import Any

from taskito_core import options
from taskito_core.errors import ConfigError
from taskito_core.job import clean_text

#: Characters of a key that are kept.
LONGEST_KEY = 500


class Places:
    """``concurrency``, ``concurrency_key`` and ``on_excess`` of one task."""

    def __init__(
        self,
        task_name: str,
        concurrency: object,
        template: object,
        on_excess: object,
        signature: inspect.Signature | None,
    ) -> None:
        self.count = options.whole("concurrency", concurrency, 1)
        self.drop = _is_drop(on_excess)
        self._task_name = task_name
        self._signature = signature
        self._template = _checked(task_name, template, signature)

    def fields(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
        """What a NewJob of this call says of its place."""
        return {
            "concurrency_key": self._key(args, kwargs),
            "concurrency": self.count,
            "drop_excess": self.drop,
        }

    def _key(self, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
        if self._template is None:
            return self._task_name
        assert self._signature is not None
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            filled = self._template.format_map(bound.arguments)
        except (LookupError, AttributeError, TypeError, ValueError) as exc:
            raise ConfigError(
                f"concurrency_key {self._template!r} of task {self._task_name!r} cannot be filled "
                f"from this call: {type(exc).__name__}: {exc}"
            ) from exc
        return clean_text(f"{self._task_name}:{filled}", LONGEST_KEY)


def read(task_name: str, given: Mapping[str, Any], signature: inspect.Signature | None) -> Places | None:
    """The places that the options of a task speak of; None: any number may run. Raises ConfigError."""
    concurrency, template = given.get("concurrency"), given.get("concurrency_key")
    on_excess = given.get("on_excess", "wait")
    if concurrency is None:
        if template is not None:
            raise ConfigError(f"concurrency_key of task {task_name!r} needs concurrency: how many per key?")
        if _is_drop(on_excess):
            raise ConfigError(f"on_excess='drop' of task {task_name!r} needs concurrency: in excess of what?")
        return None
    return Places(task_name, concurrency, template, on_excess, signature)


def _is_drop(on_excess: object) -> bool:
    if on_excess not in ("wait", "drop"):
        raise ConfigError(f"on_excess must be 'wait' or 'drop', got {on_excess!r}")
    return on_excess == "drop"


def _checked(task_name: str, template: object, signature: inspect.Signature | None) -> str | None:
    """The template, if every field of it is an argument of the function."""
    if template is None:
        return None
    if not isinstance(template, str) or not template:
        raise ConfigError(f"concurrency_key must be text such as 'user:{{user_id}}', got {template!r}")
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as exc:
        raise ConfigError(f"concurrency_key {template!r} is no format text: {exc}") from None
    known = set(signature.parameters) if signature is not None else set()
    for field in fields:
        name = field.partition(".")[0].partition("[")[0]
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ConfigError(
                f"concurrency_key {template!r} of task {task_name!r} has a field {name!r}, "
                f"its arguments are: {listed}"
            )
    return template
