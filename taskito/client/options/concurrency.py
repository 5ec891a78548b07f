"""How many jobs of a task may run at once; or of one key, which is made of a call's arguments."""

from __future__ import annotations

import hashlib
import inspect
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskito.client.options import job_options
from taskito.serialization.serializers import Inputs
from taskito_core.errors import ConfigError
from taskito_core.job import clean_text

#: Characters of a key; of a longer one the end is a hash.
LONGEST_KEY = 500


class Concurrency:
    """``concurrency``, ``concurrency_key`` and ``on_excess`` of one task."""

    def __init__(
        self,
        task_name: str,
        concurrency: object,
        template: str | None,
        on_excess: object,
        signature: inspect.Signature | None,
    ) -> None:
        self.count = job_options.whole("concurrency", concurrency, 1)
        self.drop = _is_drop(on_excess)
        self._task_name = task_name
        self._signature = signature
        self._template = template
        self._named = frozenset(_argument_names(task_name, template, signature))

    def fields(
        self, args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs | None
    ) -> dict[str, Any]:
        """The fields of NewJob for this call. ConfigError if its key cannot be known yet."""
        return {
            "concurrency_key": self._key(args, kwargs, inputs),
            "concurrency": self.count,
            "drop_excess": self.drop,
        }

    def _key(self, args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs | None) -> str:
        if self._template is None:
            return self._task_name
        arguments = self._arguments(args, kwargs, inputs) if self._named else {}
        try:
            filled = self._template.format_map(arguments)
        except (LookupError, AttributeError, TypeError, ValueError) as exc:
            raise self._unfilled(f"{type(exc).__name__}: {exc}") from exc
        key = f"{self._task_name}:{filled}"
        return _bounded(clean_text(key, cap=len(key)))

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
            f"concurrency_key {self._template!r} of task {self._task_name!r} cannot be filled "
            f"from this call: {why}"
        )


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
    if template is not None and (not isinstance(template, str) or not template):
        raise ConfigError(f"concurrency_key must be text such as 'user:{{user_id}}', got {template!r}")
    return Concurrency(task_name, concurrency, template, on_excess, signature)


def _is_drop(on_excess: object) -> bool:
    return job_options.one_of("on_excess", on_excess, ("wait", "drop")) == "drop"


def _bounded(key: str) -> str:
    """Two long keys that differ anywhere stay two."""
    if len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{key[: LONGEST_KEY - len(digest)]}{digest}"


def _argument_names(
    task_name: str, template: str | None, signature: inspect.Signature | None
) -> Iterator[str]:
    """The arguments of the function that the template has fields for. ConfigError for any other field."""
    if template is None:
        return
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
        yield name
