"""Random sequences of calls, given to the store under test and to ``MemoryStorage``: they must agree.

The model decides what may be compared: moments are not (two clocks), but every order, count,
state and answer is, after every step. Delays and clock shifts are far larger than any test's
own run time, so that a slow machine changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskito_core.job import (
    AttemptError,
    Charge,
    Claim,
    Complete,
    ErrorKind,
    Job,
    NewJob,
    Outcome,
    Release,
    new_id,
)
from taskito_core.memory.storage import MemoryStorage
from taskito_core.memory.store import forget
from taskito_core.storage import Counts, Exchange, JobFilter, Storage, StorageConfig, Want
from taskito_core.testing.conformance.base import ConformanceBase
from taskito_core.testing.factories import dead, error_info, make_job, make_worker, new_token, retry

_QUARTER_HOUR = 1_000_000  #: milliseconds; every delay and shift is a multiple of it
_TASKS = st.sampled_from([("job",), ("other",), ("job", "other"), ()])
_RELEASES = ["release", "release to job", "release to other"]
_ENDS = ["complete", "retry", "retry later", "crash", "dead", *_RELEASES]


class Model(ConformanceBase):
    #: How many random sequences are tried. They are the same ones in every run.
    model_examples: ClassVar[int] = 15
    #: Set it to look for the shortest sequence that fails; on a database that takes minutes.
    model_shrinks: ClassVar[bool] = False

    def test_random_calls_have_the_answers_of_the_memory_storage(self, storage: Storage) -> None:
        class OfThisStore(_Comparison):
            real = storage

        run_state_machine_as_test(
            OfThisStore,
            settings=settings(
                max_examples=self.model_examples,
                stateful_step_count=20,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, *([Phase.shrink] if self.model_shrinks else [])],
            ),
        )


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

    @initialize()
    def two_workers(self) -> None:
        self.register()
        self.register()

    @precondition(lambda self: len(self.workers) < 5)
    @rule()
    def register(self) -> None:
        worker = make_worker(id=f"{self.name}-{len(self.workers)}")
        self.workers.append(worker.id)
        for storage in (self.real, self.model):
            storage.register(worker)

    @rule(
        specs=st.lists(
            st.tuples(
                st.sampled_from([0, 1]),  # queue
                st.sampled_from([0, 0, -1, 5]),  # priority
                st.sampled_from([0, 0, 0, 1, 3]),  # delay in quarter hours
                st.sampled_from([None, 0, 2]),  # result_ttl in quarter hours
            ),
            min_size=1,
            max_size=5,
        ),
        again=st.lists(st.integers(0, 40), max_size=2),
    )
    def enqueue(self, specs: list[tuple[int, int, int, int | None]], again: list[int]) -> None:
        self.tick()
        jobs = [self.new_job(*spec) for spec in specs]
        jobs += [
            make_job(id=self.ids[index], queue=self.queues[0]) for index in again if index < len(self.ids)
        ]
        assert self.real.enqueue(jobs) == self.model.enqueue(jobs)
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
        assert _comparable_claims(real) == _comparable_claims(model)
        assert real.alive == model.alive
        if limit is not None and model.alive and len(model.claims) < limit:
            assert _quarters_to_next(real) == _quarters_to_next(model)
        self.claims += model.claims
        self.compare()

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
        self.tick(quarters * _QUARTER_HOUR)

    @rule()
    def prune(self) -> None:
        self.tick()
        assert self.real.prune(1_000) == self.model.prune(1_000)
        self.compare()

    def teardown(self) -> None:
        """Leave nothing that the next sequence could notice."""
        for worker in self.workers:
            self.real.unregister(worker)
        self.tick(10 * _QUARTER_HOUR)
        while self.real.prune(1_000):
            pass
        forget(self.name)

    # ---- what the calls are made of ----

    def tick(self, milliseconds: int = 1_000) -> None:
        """Move both clocks, so that what is made by different steps is of different age in both."""
        self.real.clock_shift += milliseconds
        self.model.clock_shift += milliseconds

    def worker(self, who: int) -> str:
        return self.workers[who % len(self.workers)]

    def new_job(self, queue: int, priority: int, delay: int, ttl: int | None) -> NewJob:
        job_id = f"{self.name}-{len(self.ids):06}"
        self.ids.append(job_id)
        return make_job(
            id=job_id,
            queue=self.queues[queue],
            priority=priority,
            delay=delay * _QUARTER_HOUR / 1000,
            result_ttl=None if ttl is None else ttl * _QUARTER_HOUR / 1000,
        )

    def outcomes(self, ends: list[tuple[int, str]]) -> list[Outcome]:
        """Ends for recent claims, good and stale ones; at most one for each job."""
        recent = self.claims[-12:][::-1]
        chosen = {recent[n].id: _outcome(recent[n], end) for n, end in ends if n < len(recent)}
        return list(chosen.values())

    # ---- what must agree ----

    def compare(self) -> None:
        real, model = self.real, self.model
        assert _comparable_jobs(real.get(self.ids)) == _comparable_jobs(model.get(self.ids))
        for job_id in {claim.id for claim in self.claims}:
            assert _comparable_errors(real.errors(job_id)) == _comparable_errors(model.errors(job_id))
        assert self.counts(real) == self.counts(model)
        assert self.listed(real) == self.listed(model)
        assert self.letters(real) == self.letters(model)
        assert self.known_workers(real) == self.known_workers(model)

    def counts(self, storage: Storage) -> list[Counts]:
        by_queue = storage.counts().by_queue
        return [by_queue.get(queue, Counts()) for queue in self.queues]

    def listed(self, storage: Storage) -> list[list[str]]:
        pages = [storage.list_jobs(JobFilter(queue=queue), 1_000, None) for queue in self.queues]
        return [[job.id for job in page.jobs] for page in pages]

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


def _outcome(claim: Claim, end: str) -> Outcome:
    error = error_info(message=f"{end} of {claim.token}")
    match end:
        case "complete":
            return Complete(claim.id, claim.token, f"result of {claim.token}".encode(), None)
        case "retry":
            return retry(claim, error=error)
        case "retry later":
            return retry(claim, 2 * _QUARTER_HOUR / 1000, error=error)
        case "crash":
            return retry(claim, charge=Charge.CRASH, error=error)
        case "dead":
            return dead(claim, charge=Charge.CRASH, error=error)
        case "release":
            return Release(claim.id, claim.token)
        case _:
            return Release(claim.id, claim.token, end.removeprefix("release to "))


def _comparable_claims(answer: Exchange) -> list[Claim]:
    return [claim._replace(claimed_at=0) for claim in answer.claims]


def _quarters_to_next(answer: Exchange) -> int | None:
    if answer.next_due is None:
        return None
    return round((answer.next_due - answer.now) / _QUARTER_HOUR)


def _comparable_jobs(jobs: Sequence[Job]) -> dict[str, tuple[Any, ...]]:
    return {
        job.id: (
            job.status,
            job.result,
            # The words of a rescue are the store's own.
            job.error if job.interruptions == 0 else None,
            (job.retry_count, job.crashes, job.interruptions),
            (job.worker, job.token),
            (job.claimed_at is None, job.completed_at is None),
        )
        for job in jobs
    }


def _comparable_errors(errors: Sequence[AttemptError]) -> list[tuple[Any, ...]]:
    return [
        (
            (error.job_id, error.token, error.attempt, error.kind, error.worker),
            () if error.kind is ErrorKind.INTERRUPTED else (error.type, error.message, error.traceback),
        )
        for error in errors
    ]
