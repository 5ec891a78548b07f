"""Putting jobs into the store: one batch, one transaction, ids made here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack, cast

from taskito.client import aio, options
from taskito.client.callbacks import Hookable
from taskito.client.control import Acting
from taskito.client.options import JobOptions, JobSpec
from taskito.client.result import JobResult
from taskito.client.task import call_arguments
from taskito.serialization.serializers import Inputs, Serializer, dump_call
from taskito_core.errors import ConfigError, PayloadTooLarge, StorageUnavailable
from taskito_core.job import NewJob, new_id, new_ids


class Producing(Acting, Hookable):
    """What a producer needs of a queue."""

    serializer: Serializer  #: of tasks that say nothing else

    def enqueue(
        self,
        task_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> JobResult[Any]:
        """Store one job of a task, by the task's name; the task need not be known to this process.

        Raises ConfigError for an option that makes no sense, SerializationError, PayloadTooLarge,
        StorageUnavailable. After the last the job may be stored or not: with an ``id`` of your own
        the call can be repeated, and the job is still there once.
        """
        [result] = self._submit([self._job_of(task_name, args, kwargs, options)], options.get("connection"))
        return result

    def enqueue_many(
        self, jobs: Iterable[JobSpec], *, connection: object | None = None
    ) -> list[JobResult[Any]]:
        """Store many jobs in one transaction: all of them, or none. Each has its own options.

        ``connection``: in the transaction that is open there, the caller's own.

        ``queue.enqueue_many([{"task_name": "mail.send", "args": (1,), "priority": 5}, send.spec(2)])``.
        Handles come in the order of ``jobs``. Raises as ``enqueue``.
        """
        ids = new_ids()
        made = [self._job_of_spec(index, spec, ids) for index, spec in enumerate(jobs)]
        return self._submit(made, connection)

    aenqueue = aio.twin(enqueue)
    aenqueue_many = aio.twin(enqueue_many)

    def serializer_of(self, task_name: str) -> Serializer:
        task = self._tasks.get(task_name)
        return self.serializer if task is None else task.serializer

    # ---- from a call to a row ----

    def _job_of_spec(self, index: int, spec: JobSpec, ids: Iterator[str]) -> NewJob:
        where = f"job {index} of enqueue_many()"
        if type(spec) is not dict and not isinstance(spec, Mapping):
            raise TypeError(f"{where} must be a mapping such as task.spec(...) makes, got {spec!r:.200}")
        said = dict(spec)
        if said.get("connection") is not None:
            raise ConfigError(f"{where} has a connection of its own; say it once, to enqueue_many()")
        if "task_name" not in said:
            raise TypeError(f"{where} has no task_name")
        task_name, args, kwargs = said.pop("task_name"), said.pop("args", ()), said.pop("kwargs", None)
        return self._job_of(task_name, args, kwargs, cast(JobOptions, said), where, ids)

    def _job_of(
        self,
        task_name: object,
        args: object,
        kwargs: object,
        said: JobOptions,
        where: str = "enqueue()",
        ids: Iterator[str] | None = None,
        inputs: Inputs | None = None,
    ) -> NewJob:
        args, kwargs = call_arguments(args, kwargs)
        task = self._tasks.get(task_name) if isinstance(task_name, str) else None
        if task is not None:
            fields = task._fields_of_job(said, where) if said else task._fields_now()
            return task._new_job(fields, args, kwargs, ids, inputs)
        name = options.name("task_name", task_name)
        said = self.callbacks.heard(name, None, said)
        fields = {
            "task_name": name,
            "priority": self.settings.default_priority,
            "result_ttl": self.settings.result_ttl,
            **options.job_fields(where, said),
        }
        return self._new_job(self.serializer, fields, args, kwargs, ids, inputs)

    def _new_job(
        self,
        serializer: Serializer,
        fields: Mapping[str, Any],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        ids: Iterator[str] | None = None,
        inputs: Inputs | None = None,
    ) -> NewJob:
        payload = dump_call(serializer, args, kwargs, inputs)
        if len(payload) > self.settings.max_payload:
            raise PayloadTooLarge(
                f"the arguments of task {fields['task_name']!r} take {len(payload)} bytes and max_payload is "
                f"{self.settings.max_payload}; keep large things elsewhere and pass where they are"
            )
        if "id" in fields:
            return NewJob(payload=payload, **fields)
        return NewJob(id=new_id() if ids is None else next(ids), payload=payload, **fields)

    def _submit(self, jobs: list[NewJob], connection: object | None = None) -> list[JobResult[Any]]:
        if not jobs:
            return []
        storage = self.storage
        if connection is not None:
            # Whether this will ever be is for the caller's transaction to decide: plugins are not told.
            return [JobResult(self, receipt.id) for receipt in storage.enqueue(jobs, connection)]
        try:
            receipts = storage.enqueue(jobs)
            stored = [job for job, receipt in zip(jobs, receipts, strict=True) if receipt.inserted]
        except StorageUnavailable:
            # The connection may just have grown old, or been lost while committing. The ids are ours,
            # so sending the same batch again stores nothing twice.
            receipts, stored = storage.enqueue(jobs), jobs
        if stored:
            self.plugins.observe("taskito_jobs_enqueued", jobs=stored)
        return [JobResult(self, receipt.id) for receipt in receipts]
