"""Storing jobs with keys, parents, an expiry or a lane, in whichever transaction is at hand.

``Batch.cascade`` is what must follow its commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskito_core import JobNotFoundError, NewJob, QueueFull, Receipt, columns, messages
from taskito_postgres.arrays import Array, Bigints, Blobs, Booleans, Doubles, Texts
from taskito_postgres.connection import ATTEMPTS
from taskito_postgres.gates import Cascade, Run, cancel_dependants, fill_slots, lock_of, release_dependants
from taskito_postgres.session import LOCK_TIMEOUT
from taskito_postgres.sql import enqueue as sql
from taskito_postgres.sql import gates

#: Rows in one INSERT.
MAX_ROWS = 2000
#: Bytes of payload in one INSERT; an array of PostgreSQL ends at 1 GB.
MAX_BYTES = 256 * 1024 * 1024
#: How long a transaction waits for a parent's row: a settle takes milliseconds, a task's own transaction may
#: take hours, and then the sweep sees to the child.
PARENT_TIMEOUT = "1s"
#: Before a queue's name: stands for its ceiling among the keys that have a lock.
_CEILING = "\0ceiling "

_ARRAYS: dict[columns.Kind, type[Array]] = {
    columns.Kind.TEXT: Texts,
    columns.Kind.LIST: Texts,
    columns.Kind.INTEGER: Bigints,
    columns.Kind.REAL: Doubles,
    columns.Kind.BOOLEAN: Booleans,
    columns.Kind.BYTES: Blobs,
}


def _packer(some: Sequence[columns.Column]) -> Callable[[Sequence[NewJob]], dict[str, Any]]:
    """A function from jobs, at least one, to an array for each of these columns."""
    values_of = columns.values_of(some)
    arrays = [(column.name, _ARRAYS[column.kind]) for column in some]

    def pack(jobs: Sequence[NewJob]) -> dict[str, Any]:
        by_column = zip(*map(values_of, jobs), strict=True)
        return {name: array(values) for (name, array), values in zip(arrays, by_column, strict=True)}

    return pack


_plain = _packer(columns.PLAIN)
_gated = _packer(columns.GATED)


def plain_arrays(jobs: Sequence[NewJob], shift: int) -> dict[str, Any]:
    """The parameters of ENQUEUE for at least one job."""
    return {
        **_plain(jobs),
        "scheduled_at": Bigints(job.scheduled_at for job in jobs),
        "delay": Doubles(job.delay for job in jobs),
        "shift": shift,
    }


class Batch:
    """Some jobs on their way into the store, all or none."""

    def __init__(
        self,
        run: Run,
        schema: str,
        shift: int,
        *,
        external: bool = False,
        locks_parents: bool = True,
        bounded: bool = False,
    ) -> None:
        """``external``: the transaction is the caller's own and may take hours, so it must hold no lock that
        others need: a job with a concurrency key waits for the next sweep, which gives the slots away.
        ``locks_parents``: it may wait for a transaction that holds a parent's row.
        ``bounded``: no more than their queues may hold."""
        self._run = run
        self._schema = schema
        self._shift = shift
        self._external = external
        self._locks_parents = locks_parents and not external
        self._stands_for: dict[str, str] = {}  #: id in the batch -> id of the job that is stored
        self._cancelled: set[str] = set()  #: stored, and cancelled at once
        self._firsts: dict[str, NewJob] = {}  #: new jobs that stand for the calls of a key
        self._later_calls: dict[str, NewJob] = {}  #: id of a new job -> what a later call made of it
        self._keys: set[str] = set()  #: concurrency keys of jobs that were put off
        self._ceilings: dict[str, int] = {}  #: of the queues of stored jobs, as far as they have one
        self._bounded = bounded
        self.cascade = Cascade()

    def store(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        """Insert what is not there yet; JobNotFoundError for a parent that is not, before anything was.

        QueueFull, after which the transaction must be rolled back, if ``bounded``.
        """
        self._check_parents(jobs)
        stand_ins = self._stands_for_calls(jobs) if any(job.call_key is not None for job in jobs) else {}
        new = [self._later_calls.get(job.id, job) for n, job in enumerate(jobs) if n not in stand_ins]
        receipts = self._insert(new)
        inserted = [job for job, receipt in zip(new, receipts, strict=True) if receipt.inserted]
        self._open(inserted)
        if self._ceilings and self._bounded:
            self._refuse_too_many(Counter(job.queue for job in inserted))
        if not stand_ins:
            return receipts
        rest = iter(receipts)
        return [Receipt(stand_ins[n], False) if n in stand_ins else next(rest) for n in range(len(jobs))]

    # ---- calls that belong together ----

    def _stands_for_calls(self, jobs: Sequence[NewJob]) -> dict[int, str]:
        """Position of a call in the batch -> the job that stands for it because of its key."""
        calls = [job for job in jobs if job.call_key is not None]
        keys = {"keys": Texts(sorted({job.call_key or "" for job in calls})), "shift": self._shift}
        self._run(sql.ADD_CALLS, keys)
        rows = self._run(sql.LAST_CALL, keys)
        last = {key: (standing, call_id, until) for key, standing, call_id, until, _ in rows}
        now = max(row[-1] for row in rows)
        stored = {row[0] for row in self._run(sql.STORED, {"ids": Texts(job.id for job in calls)})}
        stand_ins: dict[int, str] = {}
        noted: set[str] = set()
        for n, job in enumerate(jobs):
            if (key := job.call_key) is None:
                continue
            standing, call_id, until = last[key]
            if job.id in stored or job.id in self._firsts:
                continue
            if call_id == job.id or (job.window is not None and standing and now < until):
                stand_ins[n] = standing
            elif job.window is None and standing and self._put_off(standing, job):
                stand_ins[n] = standing
                last[key] = standing, job.id, _until(job, now)
                noted.add(key)
            else:
                self._firsts[job.id] = job
                last[key] = job.id, job.id, _until(job, now)
                noted.add(key)
        self._note_calls({key: last[key] for key in noted}, now)
        self._stands_for = {jobs[n].id: standing for n, standing in stand_ins.items()}
        return stand_ins

    def _put_off(self, standing: str, job: NewJob) -> bool:
        """Make a pending job what this call says, due when it says; False if it is pending no more."""
        if standing in self._firsts:  # it is of this batch, and not stored yet
            first = self._firsts[standing]
            self._later_calls[standing] = replace(
                job, id=standing, lane=first.lane, parents=first.parents, drop_excess=first.drop_excess
            )
            return True
        rows = self._run(sql.PUT_OFF, {**self._arrays([job]), "standing": Texts([standing])})
        self._keys.update(key for _, key in rows if key is not None)
        if rows and job.concurrency_key is not None:
            self._keys.add(job.concurrency_key)
        return bool(rows)

    def _note_calls(self, last: dict[str, tuple[str, str, int]], now: int) -> None:
        if not last:
            return
        ids, call_ids, until = zip(*last.values(), strict=True)
        noted = {"keys": Texts(last), "ids": Texts(ids), "call_ids": Texts(call_ids), "until": Bigints(until)}
        self._run(sql.PUT_CALL, {**noted, "now": now})

    # ---- rows ----

    def _check_parents(self, jobs: Sequence[NewJob]) -> None:
        earlier: set[str] = set()
        needed: list[tuple[str, list[str]]] = []
        for job in jobs:
            if parents := [parent for parent in job.parents if parent not in earlier]:
                needed.append((job.id, parents))
            earlier.add(job.id)
        if not needed:
            return
        asked = {job_id for child, parents in needed for job_id in (child, *parents)}
        known = {row[0] for row in self._run(sql.STORED, {"ids": Texts(asked)})}
        for child, parents in needed:
            missing = [parent for parent in parents if parent not in known]
            # A child that is stored already inserts nothing, whatever became of its parents.
            if missing and child not in known:
                raise JobNotFoundError(messages.missing_parents(child, missing))

    def _insert(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        """In rounds: of jobs that share an id or unique key the first goes first, the others learn of it."""
        receipts: dict[int, Receipt] = {}
        waiting = list(enumerate(jobs))
        while waiting:
            first = _first_of_each(waiting)
            for portion in _portions(first):
                stored = self._insert_portion([job for _, job in portion])
                receipts.update((n, Receipt(job.id, True)) for n, job in portion if job.id in stored)
            self._stands_for.update((jobs[n].id, receipt.id) for n, receipt in receipts.items())
            waiting = [(n, job) for n, job in waiting if n not in receipts]
            if waiting:
                inserted = [jobs[n] for n, receipt in receipts.items() if receipt.inserted]
                self._cancel_children(inserted, {job.id for _, job in waiting})
            receipts.update(self._stand_ins(waiting))
            # A job that is neither stored nor has a stand-in goes again: the holder has ended in between.
            waiting = [(n, job) for n, job in waiting if n not in receipts]
        self._stands_for.update((job.id, receipts[n].id) for n, job in enumerate(jobs))
        return [receipts[n] for n in range(len(jobs))]

    def _cancel_children(self, inserted: Sequence[NewJob], waiting: Collection[str]) -> None:
        """Cancel those whose parents came to nothing: they hold no unique key for the rest of the batch."""
        children = [job.id for job in inserted if job.parents and job.id not in self._cancelled]
        if not children:
            return
        self._add_edges([edge for edge in self._edges(inserted) if edge[1] not in waiting])
        cascade = Cascade(children=children)
        cancel_dependants(self._run, cascade, self._shift)
        self._cancelled.update(cascade.cancelled)

    def _insert_portion(self, portion: Sequence[NewJob]) -> set[str]:
        arrays = self._arrays(portion)
        rows = self._run(sql.ENQUEUE_FULL, arrays)
        self._ceilings.update((queue, ceiling) for _, queue, ceiling in rows if ceiling is not None)
        stored = {job_id for job_id, _, _ in rows}
        return stored - {row[0] for row in self._run(sql.UNDO_FINISHED, {"id": arrays["id"]})}

    def _stand_ins(self, waiting: Sequence[tuple[int, NewJob]]) -> dict[int, Receipt]:
        """Of jobs that were not inserted, the stored job that stands for each: itself or its key's holder."""
        if not waiting:
            return {}
        asked = {
            "ids": Texts(job.id for _, job in waiting),
            "unique_keys": Texts(job.unique_key for _, job in waiting),
        }
        found = {
            (job_id, key): job_id if is_stored else holder
            for job_id, key, is_stored, holder in self._run(sql.STANDS_FOR, asked)
        }
        stand_ins = ((n, found[job.id, job.unique_key]) for n, job in waiting)
        return {n: Receipt(job_id, False) for n, job_id in stand_ins if job_id is not None}

    def _arrays(self, jobs: Sequence[NewJob]) -> dict[str, Any]:
        gate = "later" if self._external else ""
        return {
            **plain_arrays(jobs, self._shift),
            **_gated(jobs),
            "expires_at": Bigints(job.expires_at for job in jobs),
            "expires": Doubles(job.expires for job in jobs),
            "gate": Texts("parents" if job.parents else gate for job in jobs),
        }

    # ---- ceilings ----

    def _refuse_too_many(self, inserted: Mapping[str, int]) -> None:
        """One producer at a time counts what is pending on a queue, its own jobs among them."""
        bounded = sorted(inserted.keys() & self._ceilings.keys())
        if not self._external:
            locks = sorted({lock_of(self._schema, f"{_CEILING}{queue}") for queue in bounded})
            self._run(gates.LOCK_KEYS, {"locks": Bigints(locks)})
        for queue in bounded:
            ceiling = self._ceilings[queue]
            [(pending,)] = self._run(sql.PENDING, {"queue": queue, "limit": ceiling + 1})
            if pending > ceiling:
                said = messages.QUEUE_FULL.format(queue=queue, ceiling=ceiling, count=inserted[queue])
                raise QueueFull(said)

    # ---- gates ----

    def _open(self, inserted: Sequence[NewJob]) -> None:
        """Take the new jobs past the gates that need not keep them."""
        if edges := self._edges(inserted):
            self._add_edges(edges)
            self._lock_parents({parent for _, parent in edges}.difference(job.id for job in inserted))
        children = [job.id for job in inserted if job.parents and job.id not in self._cancelled]
        opening = Cascade(children=children)
        release_dependants(self._run, opening, self._shift)
        alone = [job for job in inserted if not job.parents]
        opening.keys |= {job.concurrency_key for job in alone if job.concurrency_key is not None} | self._keys
        self._fill_slots(opening, [job.id for job in inserted if job.drop_excess])
        self.cascade.queues |= opening.queues
        decided = {*opening.cancelled, *opening.opened}
        self.cascade.children = [job_id for job_id in opening.children if job_id not in decided]
        if self.cascade.parents:  # some were dropped, and others of the batch may depend on them
            release_dependants(self._run, self.cascade, self._shift)

    def _lock_parents(self, parents: Collection[str]) -> None:
        if parents and self._locks_parents:
            self._run(gates.SET_LOCK_TIMEOUT, {"timeout": PARENT_TIMEOUT})
            self._run(gates.LOCK_PARENTS, {"ids": Texts(sorted(parents))})
            self._run(gates.SET_LOCK_TIMEOUT, {"timeout": LOCK_TIMEOUT})

    def _fill_slots(self, opening: Cascade, droppable: list[str]) -> None:
        if opening.keys and not self._external:
            for _ in range(ATTEMPTS):
                for statement, parameters in fill_slots(self._schema, opening.keys, self._shift):
                    rows = self._run(statement, parameters)
                if opening.add_opened(rows):
                    break
        if droppable:
            excess = {"ids": Texts(droppable), "shift": self._shift}
            self.cascade.add_ended(self._run(gates.DROP_EXCESS, excess))

    def _add_edges(self, edges: Sequence[tuple[str, str]]) -> None:
        parameters = {
            "ids": Texts(child for child, _ in edges),
            "parents": Texts(parent for _, parent in edges),
        }
        self._run(gates.ADD_EDGES, parameters)

    def _edges(self, inserted: Iterable[NewJob]) -> list[tuple[str, str]]:
        edges: dict[tuple[str, str], None] = {}
        for job in inserted:
            for parent in job.parents:
                # A parent that was not inserted because its key is held: the child waits for the holder.
                edges[job.id, self._stands_for.get(parent, parent)] = None
        return list(edges)


def _until(job: NewJob, now: int) -> int:
    """Until when the job stands for other calls of its key."""
    if job.window is not None:
        return now + int(job.window * 1000)
    return now + int(job.delay * 1000) if job.scheduled_at is None else job.scheduled_at


def _portions(batch: Sequence[tuple[int, NewJob]]) -> Iterator[Sequence[tuple[int, NewJob]]]:
    """Parts of the batch, each small enough for one INSERT."""
    start = weight = 0
    for end, (_, job) in enumerate(batch):
        weight += len(job.payload)
        if end > start and (end - start >= MAX_ROWS or weight > MAX_BYTES):
            yield batch[start:end]
            start, weight = end, len(job.payload)
    yield batch[start:]


def _first_of_each(waiting: Sequence[tuple[int, NewJob]]) -> list[tuple[int, NewJob]]:
    """The jobs that share neither id nor unique key with one before them, in the order in which to insert.

    And that have no parent among those left for later: what becomes of that decides about them.
    """
    ids: set[str] = set()
    keys: set[str | None] = set()
    later: set[str] = set()
    first = []
    for n, job in waiting:
        shares = job.id in ids or (job.unique_key is not None and job.unique_key in keys)
        if shares or not later.isdisjoint(job.parents):
            later.add(job.id)
        else:
            first.append((n, job))
        ids.add(job.id)
        keys.add(job.unique_key)
    # Two bulks with crossed keys, or crossed ids, must not wait for each other.
    return sorted(first, key=lambda pair: (pair[1].unique_key or "", pair[1].id))
