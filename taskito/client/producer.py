"""Making jobs of calls, and storing them: one batch, one transaction, ids made in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from taskito.client.callbacks import Callbacks
from taskito.client.options import job_options, spacing
from taskito.client.options.job_options import JobOptions
from taskito.client.options.spacing import Spacing
from taskito.client.results.job_result import JobReader, JobResult
from taskito.config.settings import Settings
from taskito.serialization.serializers import Inputs, Serializer, dump_call
from taskito_core.errors import PayloadTooLarge, StorageUnavailable
from taskito_core.job import NewJob, new_id


class Template(Protocol):
    """Makes the jobs of one task; a JobTemplate."""

    def fields_now(self, said: JobOptions, where: str, /) -> Mapping[str, Any]: ...

    def new_job(
        self,
        fields: Mapping[str, Any],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        ids: Iterator[str] | None,
        inputs: Inputs | None,
        /,
    ) -> NewJob: ...


class KnownTask(Protocol):
    """A task that is registered in this process."""

    @property
    def template(self) -> Template: ...


class Observers(Protocol):
    """The plugins' observer hooks."""

    def observe(self, hook_name: str, **kwargs: object) -> None: ...


class Home(JobReader, Protocol):
    """What a producer needs of its queue."""

    @property
    def settings(self) -> Settings: ...
    @property
    def plugins(self) -> Observers: ...
    @property
    def serializer(self) -> Serializer: ...
    @property
    def callbacks(self) -> Callbacks: ...
    @property
    def tasks(self) -> Mapping[str, KnownTask]: ...


class Producer:
    """Makes and stores the jobs of one queue. Safe in any thread."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.reader: JobReader = home  #: what the handles of its jobs read from
        self.settings = home.settings
        self.serializer = home.serializer  #: of tasks that have none of their own
        self.callbacks = home.callbacks

    def job_of(
        self,
        task_name: object,
        args: object,
        kwargs: object,
        said: JobOptions,
        where: str,
        ids: Iterator[str] | None = None,
        inputs: Inputs | None = None,
    ) -> NewJob:
        """One job of a task, by its name; the task need not be known to this process.

        ``where``: begins the message of a ConfigError. ``ids``: where its id comes from; None: a new one.
        Raises ConfigError, TypeError, SerializationError, PayloadTooLarge.
        """
        args, kwargs = job_options.call_arguments(args, kwargs)
        task = self._home.tasks.get(task_name) if isinstance(task_name, str) else None
        if task is not None:
            template = task.template
            return template.new_job(template.fields_now(said, where), args, kwargs, ids, inputs)
        name = job_options.name("task_name", task_name)
        said = self.callbacks.apply_on_enqueue(name, None, said)
        fields = {
            "task_name": name,
            "priority": self.settings.default_priority,
            "result_ttl": self.settings.result_ttl,
            **job_options.job_fields(where, said),
            "spacing": spacing.of_call(where, name, said, None),
        }
        if fields["spacing"] is not None:
            spacing.refuse_beside(where, fields["spacing"], job_options.job_fields(where, said))
        fields = with_spacing(fields, args, kwargs, inputs)
        return new_job(self.serializer, self.settings.max_payload, fields, args, kwargs, ids, inputs)

    def submit(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[JobResult[Any]]:
        """Store the jobs in one transaction, all or none; their handles, in the order of ``jobs``.

        ``connection``: in the transaction that is open there. Raises StorageUnavailable, after which the
        jobs may be stored or not.
        """
        if not jobs:
            return []
        storage = self.reader.storage
        if connection is not None:
            # The caller's transaction decides whether the jobs will ever exist: plugins are not called.
            return [JobResult(self.reader, receipt.id) for receipt in storage.enqueue(jobs, connection)]
        try:
            receipts = storage.enqueue(jobs)
            stored = [job for job, receipt in zip(jobs, receipts, strict=True) if receipt.inserted]
        except StorageUnavailable:
            # The connection may just have grown old, or been lost while committing. The ids are ours,
            # so sending the same batch again stores nothing twice.
            receipts, stored = storage.enqueue(jobs), list(jobs)
        if stored:
            self._home.plugins.observe("taskito_jobs_enqueued", jobs=stored)
        return [JobResult(self.reader, receipt.id) for receipt in receipts]


def with_spacing(
    fields: Mapping[str, Any], args: Sequence[object], kwargs: Mapping[str, object], inputs: Inputs | None
) -> dict[str, Any]:
    """The fields of NewJob, when those of ``spacing`` are made of the arguments of this call."""
    made = dict(fields)
    spaced: Spacing | None = made.pop("spacing")
    return made if spaced is None else made | spaced.fields(args, kwargs, inputs)


def new_job(
    serializer: Serializer,
    max_payload: int,
    fields: Mapping[str, Any],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    ids: Iterator[str] | None = None,
    inputs: Inputs | None = None,
) -> NewJob:
    """``fields``: of NewJob, all but its payload, and its id unless that is given.

    ``max_payload``: bytes. ``ids``: where the id comes from; None: a new one.
    Raises SerializationError, PayloadTooLarge.
    """
    payload = dump_call(serializer, args, kwargs, inputs)
    if len(payload) > max_payload:
        raise PayloadTooLarge(
            f"the arguments of task {fields['task_name']!r} take {len(payload)} bytes and max_payload is "
            f"{max_payload}; keep large things elsewhere and pass where they are"
        )
    if "id" in fields:
        return NewJob(payload=payload, **fields)
    return NewJob(id=new_id() if ids is None else next(ids), payload=payload, **fields)
