"""Storing jobs that are related to others: unique keys, parents, places. One explicit transaction, because
what was stored must be looked at before the rest can be.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from taskito_core import JobNotFoundError, NewJob, StorageUnavailable
from taskito_postgres import gates, rows, sql
from taskito_postgres.arrays import Texts
from taskito_postgres.session import Parameters

#: Jobs in one INSERT.
MAX_ROWS = 2000
#: Times a job is stored again because the holder of its unique key ended between two looks.
MAX_TRIES = 20


class Runs(Protocol):
    """Runs one statement and gives its rows; all in one transaction."""

    def __call__(self, statement: str, parameters: Parameters, /) -> list[tuple[object, ...]]: ...


@dataclass(slots=True)
class Stored:
    """What became of a batch."""

    inserted: set[str] = field(default_factory=set)
    stand_ins: dict[str, str] = field(default_factory=dict)  #: ids of jobs that hold others' unique keys


class Relating:
    """One batch on its way into the store, inside the caller's transaction."""

    def __init__(self, run: Runs, jobs: Sequence[NewJob], shift: int, key_gate: str = "") -> None:
        self._run = run
        self._jobs = jobs
        self._shift = shift
        self._key_gate = key_gate
        self._stored = Stored()

    def store(self) -> Stored:
        """Store the batch and what it depends on. Raises JobNotFoundError for a parent that is not there."""
        self._refuse_unknown_parents()
        todo = self._first_of_each_key()
        for _ in range(MAX_TRIES):
            self._insert(todo)
            todo = self._left_over(todo)
            if not todo:
                break
        else:
            raise StorageUnavailable(f"the unique key of job {todo[0].id} changed hands {MAX_TRIES} times")
        self._depend()
        return self._stored

    def _refuse_unknown_parents(self) -> None:
        earlier: set[str] = set()
        outside: list[tuple[str, str]] = []
        for job in self._jobs:
            outside += [(job.id, parent) for parent in job.parents if parent not in earlier]
            earlier.add(job.id)
        missing = self._not_stored({parent for _, parent in outside})
        # A child that is stored already changes nothing, and its parents may be gone by now.
        orphans = self._not_stored({child for child, parent in outside if parent in missing})
        if unknown := [one for one in outside if one[0] in orphans and one[1] in missing]:
            listed = ", ".join(parent for _, parent in unknown[:5])
            raise JobNotFoundError(
                f"job {unknown[0][0]} depends on what is not stored: {listed}; "
                "enqueue parents first, or before it in the same batch"
            )

    def _not_stored(self, ids: Collection[str]) -> set[str]:
        if not ids:
            return set()
        asked = {"ids": Texts(ids), "unique_keys": Texts(None for _ in ids)}
        return {str(row[0]) for row in self._run(sql.STANDING, asked) if not row[1]}

    def _first_of_each_key(self) -> list[NewJob]:
        """The batch without jobs whose unique key an earlier one of the batch has."""
        first: dict[str, str] = {}
        todo = []
        for job in self._jobs:
            if job.unique_key is not None:
                holder = first.setdefault(job.unique_key, job.id)
                if holder != job.id:
                    self._stored.stand_ins[job.id] = holder
                    continue
            todo.append(job)
        # By key: two batches with crossed keys would else wait for each other.
        return sorted(todo, key=lambda job: (job.unique_key or "", job.id))

    def _insert(self, todo: Sequence[NewJob]) -> None:
        for start in range(0, len(todo), MAX_ROWS):
            part = todo[start : start + MAX_ROWS]
            parameters = rows.more_columns(part, self._shift, self._key_gate)
            inserted = {str(row[0]) for row in self._run(sql.ENQUEUE_GATED, parameters)}
            forgotten = self._run(sql.FORGET_FINISHED, {"ids": parameters["ids"]})
            self._stored.inserted |= inserted - {str(row[0]) for row in forgotten}

    def _left_over(self, todo: Sequence[NewJob]) -> list[NewJob]:
        """Who was not inserted and is neither stored nor stood in for: to be tried again."""
        out = [job for job in todo if job.id not in self._stored.inserted]
        if not out:
            return []
        asked = {"ids": Texts(job.id for job in out), "unique_keys": Texts(job.unique_key for job in out)}
        again = set()
        for job_id, is_stored, holder in self._run(sql.STANDING, asked):
            if is_stored:
                continue
            if holder is None:
                again.add(job_id)
            else:
                self._stored.stand_ins[str(job_id)] = str(holder)
        return [job for job in out if job.id in again]

    def _depend(self) -> None:
        edges = [
            (job.id, self.stand_in(parent))
            for job in self._jobs
            if job.id in self._stored.inserted
            for parent in job.parents
        ]
        if edges:
            ids, parents = zip(*edges, strict=True)
            self._run(gates.DEPEND, {"ids": Texts(ids), "parents": Texts(parents)})

    def stand_in(self, job_id: str) -> str:
        """The id that stands for this job: its own, or that of the holder of its unique key."""
        while (holder := self._stored.stand_ins.get(job_id)) is not None:
            job_id = holder
        return job_id
