"""Storing jobs that have more to them than a task and arguments: keys, parents, an expiry, a lane.

Everything here happens in the caller's transaction, whichever that is. ``Intake.rest`` is what must
follow its commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from taskito_core import JobNotFoundError, NewJob, Receipt
from taskito_postgres import gates, queries, sql
from taskito_postgres.arrays import Bigints, Booleans, Doubles, Texts
from taskito_postgres.columns import columns
from taskito_postgres.connection import ATTEMPTS
from taskito_postgres.follow import Aftermath, Run, doom, let_in, pass_on
from taskito_postgres.session import LOCK_TIMEOUT

#: Rows in one INSERT.
AT_ONCE = 2000
#: Bytes of payload in one INSERT; an array of PostgreSQL ends at 1 GB.
MAX_BYTES = 256 * 1024 * 1024


def is_plain(job: NewJob) -> bool:
    """True if the narrow statements can store it."""
    return not (
        job.lane
        or job.parents
        or job.unique_key is not None
        or job.concurrency_key is not None
        or job.expires_at is not None
        or job.expires is not None
    )


class Intake:
    """One batch on its way into the store."""

    def __init__(
        self, run: Run, schema: str, shift: int, *, lasting: bool = False, touches: bool = True
    ) -> None:
        """``lasting``: the transaction is the caller's own and may take hours, so it must hold no lock that
        others need: who has a concurrency key waits for the next sweep, which gives the places away.
        ``touches``: it may wait for whoever holds a parent's row."""
        self._run = run
        self._schema = schema
        self._shift = shift
        self._lasting = lasting
        self._touches = touches and not lasting
        self._stands_for: dict[str, str] = {}  #: id in the batch -> id of the job that is stored
        self._doomed: set[str] = set()  #: stored, and cancelled at once
        self.rest = Aftermath()

    def store(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        """Insert what is not there yet; JobNotFoundError for a parent that is not, before anything was."""
        self._check_parents(jobs)
        receipts = self._insert(jobs)
        self._open([job for job, receipt in zip(jobs, receipts, strict=True) if receipt.inserted])
        return receipts

    # ---- rows ----

    def _check_parents(self, jobs: Sequence[NewJob]) -> None:
        earlier: set[str] = set()
        needed: list[tuple[str, str]] = []
        for job in jobs:
            needed += ((job.id, parent) for parent in job.parents if parent not in earlier)
            earlier.add(job.id)
        if not needed:
            return
        asked = {job_id for edge in needed for job_id in edge}
        known = {row[0] for row in self._run(queries.KNOWN, {"ids": Texts(asked)})}
        for child, parent in needed:
            # A child that is stored already inserts nothing, whatever became of its parents.
            if parent not in known and child not in known:
                raise JobNotFoundError(f"job {child} has the parent {parent}, which is not stored")

    def _insert(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        """In rounds: of jobs that share an id or unique key the first goes first, the others learn of it."""
        receipts: dict[int, Receipt] = {}
        waiting = list(enumerate(jobs))
        while waiting:
            batch = _first_of_each(waiting)
            for some in _portions(batch):
                stored = self._insert_some([job for _, job in some])
                receipts.update((n, Receipt(job.id, True)) for n, job in some if job.id in stored)
            self._stands_for.update((jobs[n].id, receipt.id) for n, receipt in receipts.items())
            waiting = [(n, job) for n, job in waiting if n not in receipts]
            if waiting:
                inserted = [jobs[n] for n, receipt in receipts.items() if receipt.inserted]
                self._doom(inserted, {job.id for _, job in waiting})
            receipts.update(self._standing(waiting))
            # Who is neither stored nor told of a holder goes again: the holder has ended in between.
            waiting = [(n, job) for n, job in waiting if n not in receipts]
        self._stands_for.update((job.id, receipts[n].id) for n, job in enumerate(jobs))
        return [receipts[n] for n in range(len(jobs))]

    def _doom(self, inserted: Sequence[NewJob], waiting: Collection[str]) -> None:
        """Cancel those whose parents came to nothing: they hold no unique key for the rest of the batch."""
        children = [job.id for job in inserted if job.parents and job.id not in self._doomed]
        if not children:
            return
        self._depend([edge for edge in self._edges(inserted) if edge[1] not in waiting])
        past = Aftermath(children=children)
        doom(self._run, past, self._shift)
        self._doomed.update(past.cancelled)

    def _insert_some(self, batch: Sequence[NewJob]) -> set[str]:
        stored = {row[0] for row in self._run(sql.ENQUEUE_GATED, self._columns(batch))}
        ids = Texts(job.id for job in batch)
        return stored - {row[0] for row in self._run(sql.FORGET_FINISHED, {"ids": ids})}

    def _standing(self, waiting: Sequence[tuple[int, NewJob]]) -> dict[int, Receipt]:
        """Of jobs that were not inserted, what stands for them."""
        if not waiting:
            return {}
        asked = {
            "ids": Texts(job.id for _, job in waiting),
            "unique_keys": Texts(job.unique_key for _, job in waiting),
        }
        found = {
            (job_id, key): job_id if is_stored else holder
            for job_id, key, is_stored, holder in self._run(sql.STANDING, asked)
        }
        standing = ((n, found[job.id, job.unique_key]) for n, job in waiting)
        return {n: Receipt(job_id, False) for n, job_id in standing if job_id is not None}

    def _columns(self, jobs: Sequence[NewJob]) -> dict[str, Any]:
        first = "later" if self._lasting else ""
        return {
            **columns(jobs, self._shift),
            "lanes": Texts(job.lane for job in jobs),
            "expire_ats": Bigints(job.expires_at for job in jobs),
            "expires": Doubles(job.expires for job in jobs),
            "unique_keys": Texts(job.unique_key for job in jobs),
            "tolerances": Booleans(job.tolerant for job in jobs),
            "concurrency_keys": Texts(job.concurrency_key for job in jobs),
            "concurrencies": Bigints(job.concurrency for job in jobs),
            "gates": Texts("parents" if job.parents else first for job in jobs),
        }

    # ---- gates ----

    def _open(self, inserted: Sequence[NewJob]) -> None:
        """Take the new jobs past the gates that need not keep them."""
        edges = self._edges(inserted)
        if edges:
            self._depend(edges)
            older = {parent for _, parent in edges}.difference(job.id for job in inserted)
            if older and self._touches:
                self._run(gates.PATIENCE, {"timeout": gates.TOUCH_TIMEOUT})
                self._run(gates.TOUCH, {"ids": Texts(sorted(older))})
                self._run(gates.PATIENCE, {"timeout": LOCK_TIMEOUT})
        past = Aftermath(children=[job.id for job in inserted if job.parents and job.id not in self._doomed])
        pass_on(self._run, past, self._shift)
        alone = [job for job in inserted if not job.parents]
        past.keys |= {job.concurrency_key for job in alone if job.concurrency_key is not None}
        self._give_places(past, [job.id for job in inserted if job.drop_excess])
        self.rest.queues |= past.queues
        over = {*past.cancelled, *past.opened}
        self.rest.children = [job_id for job_id in past.children if job_id not in over]
        if self.rest.parents:  # some were dropped, and others of the batch may depend on them
            pass_on(self._run, self.rest, self._shift)

    def _give_places(self, past: Aftermath, droppable: list[str]) -> None:
        if past.keys and not self._lasting:
            for _ in range(ATTEMPTS):
                for statement, parameters in let_in(self._schema, past.keys, self._shift):
                    rows = self._run(statement, parameters)
                if past.open(rows):
                    break
        if droppable:
            excess = {"ids": Texts(droppable), "shift": self._shift}
            self.rest.ended(self._run(gates.DROP_EXCESS, excess))

    def _depend(self, edges: Sequence[tuple[str, str]]) -> None:
        parameters = {
            "ids": Texts(child for child, _ in edges),
            "parents": Texts(parent for _, parent in edges),
        }
        self._run(gates.DEPEND, parameters)

    def _edges(self, inserted: Iterable[NewJob]) -> list[tuple[str, str]]:
        edges: dict[tuple[str, str], None] = {}
        for job in inserted:
            for parent in job.parents:
                # A parent that was not inserted because its key is held: the child waits for the holder.
                edges[job.id, self._stands_for.get(parent, parent)] = None
        return list(edges)


def _portions(batch: Sequence[tuple[int, NewJob]]) -> Iterator[Sequence[tuple[int, NewJob]]]:
    """Parts of the batch, each small enough for one INSERT."""
    start = weight = 0
    for end, (_, job) in enumerate(batch):
        weight += len(job.payload)
        if end > start and (end - start >= AT_ONCE or weight > MAX_BYTES):
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
