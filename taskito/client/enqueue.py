"""The part of a queue that enqueues jobs by the names of their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack, cast

from taskito.client import aio
from taskito.client.base import QueueBase
from taskito.client.job_ids import new_ids
from taskito.client.options.job_options import JobOptions, JobSpec
from taskito.client.producer import Producer
from taskito.client.results.job_result import JobResult
from taskito_core.errors import ConfigError
from taskito_core.job import NewJob


class Enqueue(QueueBase):
    """Enqueueing one job, or many at once."""

    _producer: Producer

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
        job = self._producer.job_of(task_name, args, kwargs, options, "enqueue()")
        [result] = self._producer.submit([job], options.get("connection"))
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
        return self._producer.submit(made, connection)

    aenqueue = aio.twin(enqueue)
    aenqueue_many = aio.twin(enqueue_many)

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
        return self._producer.job_of(task_name, args, kwargs, cast(JobOptions, said), where, ids)
