"""A key that is filled from the arguments of a call: ``"user:{user_id}"``."""

from __future__ import annotations

import hashlib
import inspect
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from taskito_core.errors import ConfigError
from taskito_core.job import clean_text

if TYPE_CHECKING:
    from taskito.serialization.serializers import Inputs

#: Characters of a key; of a longer one the end is a hash.
LONGEST_KEY = 500


class KeyTemplate:
    """The keys of one task's calls. Each begins with the task's name, and is that name without a template."""

    def __init__(
        self, option: str, task_name: str, template: object, signature: inspect.Signature | None
    ) -> None:
        if template is not None and (not isinstance(template, str) or not template):
            raise ConfigError(f"{option} must be text such as 'user:{{user_id}}', got {template!r}")
        self._option = option
        self._task_name = task_name
        self._signature = signature
        self._template = template
        self._named = frozenset(_argument_names(option, task_name, template, signature))

    def key(self, args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs | None) -> str:
        """The key of this call. ConfigError if it cannot be known yet."""
        if self._template is None:
            return self._task_name
        arguments = self._arguments(args, kwargs, inputs) if self._named else {}
        try:
            filled = self._template.format_map(arguments)
        except (LookupError, AttributeError, TypeError, ValueError) as exc:
            raise self._unfilled(f"{type(exc).__name__}: {exc}") from exc
        return key_of(self._task_name, filled)

    def _arguments(
        self, args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs | None
    ) -> Mapping[str, object]:
        assert self._signature is not None
        if inputs is not None and inputs.each:
            raise self._unfilled("one job makes many calls, each with arguments of its own")
        comes_later = inputs is not None and inputs.results_of is not None
        bound = self._signature.bind(*((None, *args) if comes_later else args), **kwargs)
        if comes_later and (first := next(iter(bound.arguments))) in self._named:
            raise self._unfilled(f"{first} is what another job will return")
        bound.apply_defaults()
        return bound.arguments

    def _unfilled(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self._option} {self._template!r} of task {self._task_name!r} cannot be filled "
            f"from this call: {why}"
        )


def key_of(task_name: str, text: str) -> str:
    """The key of the calls that have this text in common. Two long keys that differ anywhere stay two."""
    key = f"{task_name}:{text}"
    key = clean_text(key, cap=len(key))
    if len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{key[: LONGEST_KEY - len(digest)]}{digest}"


def _argument_names(
    option: str, task_name: str, template: str | None, signature: inspect.Signature | None
) -> Iterator[str]:
    """The arguments of the function that the template has fields for. ConfigError for any other field."""
    if template is None:
        return
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as exc:
        raise ConfigError(f"{option} {template!r} is no format text: {exc}") from None
    known = set(signature.parameters) if signature is not None else set()
    for field in fields:
        name = field.partition(".")[0].partition("[")[0]
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ConfigError(
                f"{option} {template!r} of task {task_name!r} has a field {name!r}, "
                f"its arguments are: {listed}"
            )
        yield name
