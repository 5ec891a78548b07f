"""Random sequences of calls, given to the store under test and to ``MemoryStorage``: they must agree.

The model decides what may be compared: moments are not (two clocks), but every order, count,
state and answer is, after every step. Delays and clock shifts are far larger than any test's
own run time, so that a slow machine changes nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskito_core.errors import JobNotFoundError
from taskito_core.job import Claim, NewJob, Outcome, Receipt, Release, new_id
from taskito_core.storage import Storage, StorageConfig
from taskito_core.storage_client import Counts, JobFilter
from taskito_core.storage_worker import Progress, Want
from taskito_kv.storage import MemoryStorage
from taskito_kv.store import forget
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.conformance.comparing import (
    QUARTER_HOUR,
    comparable_claims,
    comparable_errors,
    comparable_jobs,
    comparable_peek,
    comparable_replays,
    outcome_of,
    quarters_to_next,
)
from taskito_testing.conformance.suite import same_in_every_run
from taskito_testing.factories import make_job, make_worker, new_token

_PLACES = {"x": 1, "y": 2}  #: concurrency key -> how many
_FEW = st.sets(st.integers(1, 12), min_size=1, max_size=3)
_SPECS = st.tuples(
    st.sampled_from([0, 1]),  # queue
    st.sampled_from([0, 0, -1, 5]),  # priority
    st.sampled_from([0, 0, 0, 1, 3]),  # delay in quarter hours
    st.sampled_from([None, 0, 2]),  # result_ttl in quarter hours
    st.sampled_from([None, None, None, 1, 2]),  # expires in quarter hours
    st.sampled_from([None, None, None, "k", "l"]),  # unique key
    st.sampled_from([None, None, *_PLACES]),  # concurrency key
    st.sets(st.integers(1, 12), max_size=2),  # parents, counted from the newest job
    st.booleans(),  # tolerant, and drop_excess
    st.sampled_from([None] * 6 + [0, 2, 4]),  # a call key; 0: of jobs that are put off, else the window
    st.sampled_from([False] * 9 + [True]),  # parents that are stored no more too: they are refused
)
_TASKS = st.sampled_from([("job",), ("other",), ("job", "other"), ()])
_RELEASES = ["release", "release later", "release to job", "release to other"]
_ENDS = ["complete", "retry", "retry later", "crash", "dead", "cancelled", *_RELEASES]


class Model(ConformanceBase):
    #: How many random sequences are tried. They are the same ones in every run.
    model_examples: ClassVar[int] = 20
    #: Set it to look for the shortest sequence that fails; on a database that takes minutes.
    model_shrinks: ClassVar[bool] = False

    def test_random_calls_have_the_answers_of_the_memory_storage(self, storage: Storage) -> None:
        class OfThisStore(_Comparison):
            real = storage

        tried = same_in_every_run(self.model_examples, shrinks=self.model_shrinks, stateful_step_count=25)
        run_state_machine_as_test(OfThisStore, settings=tried)


class _Comparison(RuleBasedStateMachine):
    """One random sequence. Queues, ids and workers have names of its own, as all share one database."""

    real: ClassVar[Storage]

    def __init__(self) -> None:
        super().__init__()
        self.name = new_id()
        self.model = MemoryStorage(StorageConfig(backend="memory", db_url=f"memory://{self.name}"))
        self.queues = (f"{self.name}-a", f"{self.name}-b")
        self.workers: list[str] = []
        self.ids: list[str] = []
        self.claims: list[Claim] = []  #: every claim ever made: also those that are no longer good
        self.model.now()

    # ---- the calls ----

    @initialize(specs=st.lists(_SPECS, min_size=4, max_size=8))
    def two_workers_and_some_jobs(self, specs: list[tuple[Any, ...]]) -> None:
        self.register()
        self.register()
        self.enqueue(specs, [])

    @precondition(lambda self: len(self.workers) < 5)
    @rule()
    def register(self) -> None:
        worker = make_worker(id=f"{self.name}-{len(self.workers)}")
        self.workers.append(worker.id)
        for storage in (self.real, self.model):
            storage.register(worker)

    @rule(
        specs=st.lists(_SPECS, min_size=1, max_size=5),
        again=st.lists(st.integers(0, 40), max_size=2),
    )
    def enqueue(self, specs: list[tuple[Any, ...]], again: list[int]) -> None:
        self.tick()
        jobs = [self.new_job(*spec) for spec in specs]
        jobs += [
            make_job(id=self.ids[index], queue=self.queues[0]) for index in again if index < len(self.ids)
        ]
        assert _enqueued(self.real, jobs) == _enqueued(self.model, jobs)
        self.compare()

    @rule(
        who=st.integers(0, 4),
        ends=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(_ENDS)), max_size=4),
        limit=st.sampled_from([None, 0, 1, 2, 3, 8]),
        tasks=_TASKS,
        turned=st.booleans(),
    )
    def exchange(
        self, who: int, ends: list[tuple[int, str]], limit: int | None, tasks: tuple[str, ...], turned: bool
    ) -> None:
        self.tick()
        outcomes = self.outcomes(ends)
        queues = self.queues[::-1] if turned else self.queues
        wanted = None if limit is None else Want(limit, queues, tasks, new_token())
        worker = self.worker(who)
        real = self.real.exchange(worker, outcomes, wanted)
        model = self.model.exchange(worker, outcomes, wanted)
        releases = {outcome.job_id for outcome in outcomes if isinstance(outcome, Release)}
        # A release sent twice may go unnamed.
        assert real.recorded - releases == model.recorded - releases
        assert comparable_claims(real) == comparable_claims(model)
        assert real.alive == model.alive
        if limit is not None and model.alive and len(model.claims) < limit:
            assert quarters_to_next(real) == quarters_to_next(model)
        self.claims += model.claims
        self.compare()

    @rule(who=st.integers(0, 4), ends=st.lists(st.sampled_from(_ENDS), min_size=1, max_size=6))
    def work(self, who: int, ends: list[str]) -> None:
        """Claim whatever there is, and end it: random calls alone rarely get a job through its life."""
        first = len(self.claims)
        self.exchange(who, [], 8, ("job", "other"), False)
        fresh = len(self.claims) - first
        self.exchange(who, list(enumerate(ends[:fresh])), None, (), False)

    @rule(who=st.integers(0, 4), forgotten=st.sets(st.integers(0, 30), max_size=2))
    def heartbeat(self, who: int, forgotten: set[int]) -> None:
        self.tick()
        worker = self.worker(who)
        mine = [(claim.id, claim.token) for n, claim in enumerate(self.claims[-8:]) if n not in forgotten]
        real, model = self.real.heartbeat(worker, mine), self.model.heartbeat(worker, mine)
        assert real.alive == model.alive
        assert sorted(real.peers) == sorted(model.peers)
        assert sorted(real.unknown_to_me) == sorted(model.unknown_to_me)
        assert real.unknown_to_store == model.unknown_to_store
        assert dict(real.cancels) == dict(model.cancels)
        self.compare()

    @rule(suspects=st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 0)), max_size=2))
    def rescue(self, suspects: list[tuple[int, int]]) -> None:
        self.tick()
        beats = {info.id: info.beat for info in self.model.workers()}
        seen = {self.worker(who): beats.get(self.worker(who), 0) + off for who, off in suspects}
        assert sorted(self.real.rescue(seen)) == sorted(self.model.rescue(seen))
        self.compare()

    @rule(who=st.integers(0, 9))
    def unregister(self, who: int) -> None:
        self.tick()
        if who < len(self.workers):  # rarely: else all sequences end up without workers
            self.real.unregister(self.workers[who])
            self.model.unregister(self.workers[who])
        self.compare()

    @rule(quarters=st.integers(1, 3))
    def let_time_pass(self, quarters: int) -> None:
        self.tick(quarters * QUARTER_HOUR)
        # Who notices first that a keyed job fell due is left open: here it is always the sweep.
        real, model = self.real.sweep(1_000), self.model.sweep(1_000)
        assert self.of_mine(real.expired + real.cancelled) == self.of_mine(model.expired + model.cancelled)
        assert self.of_mine(real.opened) == self.of_mine(model.opened)
        self.compare()

    @rule(numbers=_FEW, force=st.booleans(), running=st.booleans())
    def cancel(self, numbers: set[int], force: bool, running: bool) -> None:
        self.tick()
        ids = self.recent(numbers)
        if running:
            real, model = self.real.ask_to_cancel(ids, force), self.model.ask_to_cancel(ids, force)
        else:
            real, model = self.real.cancel(ids, "not wanted"), self.model.cancel(ids, "not wanted")
        assert sorted(real) == sorted(model)
        self.compare()

    @rule(number=st.integers(1, 12), dead_only=st.booleans())
    def run_again(self, number: int, dead_only: bool) -> None:
        self.tick()
        again = self.next_id()
        for job_id in self.recent({number}):
            if dead_only:
                assert self.real.retry_dead(job_id, again) == self.model.retry_dead(job_id, again)
            else:
                assert self.real.replay(job_id, again) == self.model.replay(job_id, again)
            real, model = self.real.replays(job_id), self.model.replays(job_id)
            assert comparable_replays(real) == comparable_replays(model)
        self.compare()

    @rule(numbers=_FEW)
    def delete(self, numbers: set[int]) -> None:
        self.tick()
        ids = self.recent(numbers)
        assert sorted(self.real.delete(ids)) == sorted(self.model.delete(ids))
        self.compare()

    @rule(queue=st.sampled_from([0, 1]), resume=st.sampled_from([False, True, True]))
    def pause_or_resume(self, queue: int, resume: bool) -> None:
        name = self.queues[queue]
        if resume:
            assert self.real.resume(name) == self.model.resume(name)
        else:
            assert self.real.pause(name) == self.model.pause(name)

    @rule(numbers=_FEW, progress=st.sampled_from([0.0, 12.5, 100.0]))
    def note(self, numbers: set[int], progress: float) -> None:
        said = [Progress(job_id, progress) for job_id in self.recent(numbers)]
        self.real.note(said)
        self.model.note(said)
        self.compare()

    @rule()
    def restart(self) -> None:
        """What a process that begins anew finds is what the one before it left."""
        self.real.close()
        self.compare()

    @rule()
    def prune(self) -> None:
        self.tick()
        assert self.real.prune(1_000)[:3] == self.model.prune(1_000)[:3]
        self.compare()

    def teardown(self) -> None:
        """Leave nothing that the next sequence could find."""
        for queue in self.queues:
            self.real.resume(queue)
        for worker in self.workers:
            self.real.unregister(worker)
        self.real.cancel(self.ids, "the sequence is over")
        self.tick(10 * QUARTER_HOUR)
        while self.real.prune(1_000).jobs:
            pass
        forget(self.name)

    # ---- what the calls are made of ----

    def tick(self, milliseconds: int = 1_000) -> None:
        """Move both clocks, so that what is made by different steps is of different age in both."""
        self.real.clock_shift += milliseconds
        self.model.clock_shift += milliseconds

    def worker(self, who: int) -> str:
        return self.workers[who % len(self.workers)]

    def next_id(self) -> str:
        self.ids.append(f"{self.name}-{len(self.ids):06}")
        return self.ids[-1]

    def recent(self, numbers: set[int]) -> list[str]:
        """The ids with these numbers, counted from the newest; they may be stored no more."""
        return [self.ids[-number] for number in sorted(numbers) if number <= len(self.ids)]

    def of_mine(self, ids: list[str]) -> list[str]:
        return sorted(job_id for job_id in ids if job_id.startswith(self.name))

    def new_job(
        self,
        queue: int,
        priority: int,
        delay: int,
        ttl: int | None,
        expires: int | None,
        unique: str | None,
        key: str | None,
        parents: set[int],
        flag: bool,
        window: int | None,
        missing: bool,
    ) -> NewJob:
        wanted = self.recent(set() if window is not None else parents)
        return make_job(
            id=self.next_id(),
            queue=self.queues[queue],
            priority=priority,
            delay=delay * QUARTER_HOUR / 1000,
            result_ttl=None if ttl is None else ttl * QUARTER_HOUR / 1000,
            expires=None if expires is None else expires * QUARTER_HOUR / 1000,
            unique_key=None if window is not None else unique and f"{self.name}-{unique}",
            call_key=None if window is None else f"{self.name}-{bool(window)}",
            window=window * QUARTER_HOUR / 1000 if window else None,
            concurrency_key=key and f"{self.name}-{key}",
            concurrency=key and _PLACES[key],
            parents=tuple(wanted if missing else [job.id for job in self.model.get(wanted)]),
            tolerant=flag,
            drop_excess=flag and key is not None,
        )

    def outcomes(self, ends: list[tuple[int, str]]) -> list[Outcome]:
        """Ends for recent claims, good and stale ones; at most one for each job."""
        recent = self.claims[-12:][::-1]
        chosen = {}
        for number, end in ends:
            if recent:
                claim = recent[number % len(recent)]
                chosen[claim.id] = outcome_of(claim, end)
        return list(chosen.values())

    # ---- what must agree ----

    def compare(self) -> None:
        real, model = self.real, self.model
        assert comparable_jobs(real.get(self.ids)) == comparable_jobs(model.get(self.ids))
        for job_id in {claim.id for claim in self.claims}:
            assert comparable_errors(real.errors(job_id)) == comparable_errors(model.errors(job_id))
        assert self.counts(real) == self.counts(model)
        assert self.listed(real) == self.listed(model)
        assert self.letters(real) == self.letters(model)
        assert sorted(real.edges(self.ids)) == sorted(model.edges(self.ids))
        assert self.peeked(real) == self.peeked(model)
        assert self.known_workers(real) == self.known_workers(model)

    def counts(self, storage: Storage) -> list[Counts]:
        by_queue = storage.counts().by_queue
        return [by_queue.get(queue, Counts()) for queue in self.queues]

    def listed(self, storage: Storage) -> list[list[str]]:
        """The ids in each queue. A batch may be made in more than one moment: each store has its own."""
        pages = [storage.list_jobs(JobFilter(queue=queue), 1_000, None) for queue in self.queues]
        ages = [[(job.created_at, job.id) for job in page.jobs] for page in pages]
        assert ages == [sorted(age, reverse=True) for age in ages]
        return [sorted(job_id for _, job_id in age) for age in ages]

    def peeked(self, storage: Storage) -> dict[str, int]:
        return comparable_peek(storage.peek(self.queues, ("", "job", "other")), storage.now())

    def letters(self, storage: Storage) -> list[tuple[Any, ...]]:
        letters = storage.dead_letters(1_000, None).letters
        return [
            (
                letter.job_id,
                letter.reason,
                letter.error,
                letter.retry_count,
                letter.crashes,
                letter.interruptions,
            )
            for letter in letters
            if letter.job_id.startswith(self.name)
        ]

    def known_workers(self, storage: Storage) -> list[tuple[Any, ...]]:
        infos = [info for info in storage.workers() if info.id in self.workers]
        return sorted((info.id, info.status, info.beat) for info in infos)


def _enqueued(storage: Storage, jobs: list[NewJob]) -> list[Receipt] | str:
    """The receipts, or why the batch was refused."""
    try:
        return storage.enqueue(jobs)
    except JobNotFoundError as error:
        return str(error)
