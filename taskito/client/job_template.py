"""What the jobs of one task are made of: its defaults, its serializer, and what its function takes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from taskito.client.callbacks import checked_middleware
from taskito.client.options import concurrency, job_options, spacing, task_options
from taskito.client.options.job_options import JobOptions
from taskito.client.producer import Producer, new_job, with_spacing
from taskito.serialization.serializers import Inputs
from taskito_core.errors import ConfigError
from taskito_core.job import NewJob


class JobTemplate:
    """Makes the jobs of one task. Never changes, so any thread may use it.

    Raises ConfigError for an option of the task that makes no sense.
    """

    def __init__(
        self, producer: Producer, function: Callable[..., Any], name: str, given: Mapping[str, Any]
    ) -> None:
        self.producer = producer
        self.name = name
        self.policy = task_options.read_policy(name, given, producer.settings)
        self.middleware = checked_middleware("middleware", given.get("middleware"))
        self.serializer = (
            task_options.serializer("serializer", given["serializer"])
            if given.get("serializer") is not None
            else producer.serializer
        )
        self.defaults = task_options.job_defaults(self.policy, given, producer.settings)
        self._function = function
        self._max_payload = producer.settings.max_payload
        self._concurrency = concurrency.read(name, given, self._signature)
        self._spacing = spacing.of_task(name, given, self._signature)
        if self._spacing is not None:
            self.defaults["spacing"] = self._spacing

    def fields(self, said: JobOptions, where: str) -> dict[str, Any]:
        """The fields of NewJob, all but its payload, that these options and the task's defaults make.

        Beside them, under ``spacing``, what makes more of them of a call's arguments.
        ``where``: begins the message of a ConfigError.
        """
        fields = job_options.job_fields(where, said)
        soft, hard = self.policy.soft_timeout, fields.get("timeout", 0.0)
        if soft is not None and 0.0 < hard <= soft:
            raise ConfigError(f"{where}: timeout {hard:g} must be above the task's soft_timeout {soft:g}")
        spaced = spacing.of_call(where, self.name, said, self._spacing)
        if spaced is not None:
            spacing.refuse_beside(where, spaced, fields)
        return {**self.defaults, **fields, "spacing": spaced}

    def fields_now(self, said: JobOptions, where: str) -> Mapping[str, Any]:
        """``fields`` of the next job: the ``on_enqueue`` callbacks may change its options."""
        if not said and not self.has_on_enqueue:
            return self.defaults
        return self.fields(self.producer.callbacks.apply_on_enqueue(self.name, self, said), where)

    @property
    def has_on_enqueue(self) -> bool:
        """True if ``fields_now`` has to be asked anew for each job."""
        return bool(self.producer.callbacks.chain(self.name, self).on_enqueue)

    def new_job(
        self,
        fields: Mapping[str, Any],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        ids: Iterator[str] | None = None,
        inputs: Inputs | None = None,
    ) -> NewJob:
        """One job of this call. Raises TypeError for arguments that the function does not take."""
        if inputs is not None:
            self._check_inputs(args, kwargs, inputs)
        elif kwargs or not self._takes[0] <= len(args) <= self._takes[1]:
            self.check_call(args, kwargs)
        if self._concurrency is not None:
            fields = {**fields, **self._concurrency.fields(args, kwargs, inputs)}
        if "spacing" in fields:
            fields = with_spacing(fields, args, kwargs, inputs)
        return new_job(self.serializer, self._max_payload, fields, args, kwargs, ids, inputs)

    def check_call(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Raise TypeError now for a call that would fail in every attempt."""
        if self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(f"task {self.name!r} takes {self._signature}: {exc}") from None

    def _check_inputs(self, args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs) -> None:
        """The same for a call whose first argument comes from other jobs, or that is made many times."""
        first = () if inputs.results_of is None else (None,)
        for one in cast("list[list[object]]", args[-1]) if inputs.each else [args]:
            if kwargs or not self._takes[0] <= len(first) + len(one) <= self._takes[1]:
                self.check_call((*first, *one), kwargs)

    @functools.cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self._function)
        except (TypeError, ValueError):  # some functions written in C have none
            return None

    @functools.cached_property
    def _takes(self) -> tuple[float, float]:
        """How many positional arguments, from and to, are certainly right."""
        least = most = 0.0
        for parameter in self._signature.parameters.values() if self._signature else ():
            required = parameter.default is parameter.empty
            match parameter.kind:
                case parameter.POSITIONAL_ONLY | parameter.POSITIONAL_OR_KEYWORD:
                    least, most = least + required, most + 1
                case parameter.VAR_POSITIONAL:
                    most = float("inf")
                case parameter.KEYWORD_ONLY if required:
                    least = float("inf")
                case _:
                    pass
        return least, most
