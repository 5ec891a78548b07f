"""The gatekeeper of a worker: what it asks limiter and breakers for, gives back, and tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pytest

from conftest import WaitUntil
from taskito_core.errors import StorageUnavailable
from taskito_core.job import Charge, Claim, JobStatus, Outcome, Retry, new_id
from taskito_core.limits import BreakerOptions, BreakerState, Grant, RateLimit, Wants
from taskito_core.memory.limits import MemoryCircuitBreaker, MemoryRateLimiter
from taskito_core.memory.storage import MemoryStorage
from taskito_core.memory.store import forget
from taskito_core.plugins import Plugins
from taskito_core.report import TaskPolicy
from taskito_core.retry import RetryPolicy
from taskito_core.storage import Exchange, StorageConfig, Want
from taskito_core.testing.factories import (
    cancelled,
    complete,
    dead,
    error_info,
    make_job,
    make_worker,
    release,
    want,
)
from taskito_core.worker import gatekeeper
from taskito_core.worker.errands import Errands, Visit
from taskito_core.worker.gatekeeper import Gatekeeper
from taskito_core.worker.lanes import Entry
from taskito_core.worker.schedules import Schedules

#: Nothing is refilled, and nothing cools down, while a test runs.
FEW, OPTIONS = RateLimit(rate=0.001, burst=3), BreakerOptions(threshold=2, window=3600, cooldown=3600)


class Unsteady(MemoryStorage):
    """A store that claims, and whose answer is lost, as often as it is told."""

    losing = 0

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        answer = super().exchange(worker_id, outcomes, want)
        if self.losing:
            self.losing -= 1
            raise StorageUnavailable("the answer was lost")
        return answer


class Limiter(MemoryRateLimiter):
    """Counts its calls, and may be away."""

    away = False
    asked = 0

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        self.asked += 1
        if self.away:
            raise StorageUnavailable("the limiter is away")
        return super().acquire(wants)


class Worker:
    """The store thread of one worker that knows the tasks ``free``, ``limited``, ``fragile`` and ``both``."""

    def __init__(self, url: str, limit: RateLimit = FEW, options: BreakerOptions = OPTIONS) -> None:
        config = StorageConfig(backend="memory", db_url=url)
        plain = partial(TaskPolicy, queue="default", retry=RetryPolicy(), timeout=0.0)
        self.tasks = {
            "free": plain("free"),
            "limited": plain("limited", rate_limit=limit),
            "fragile": plain("fragile", breaker=options),
            "both": plain("both", rate_limit=limit, breaker=options),
        }
        self.storage, self.limiter, self.breaker = (
            Unsteady(config),
            Limiter(config),
            MemoryCircuitBreaker(config),
        )
        keeper = Gatekeeper(self.tasks, self.limiter, self.breaker)
        self.errands = Errands(self.storage, Plugins(), keeper, Schedules("app:queue", (), keeper.guarded))
        self.id = f"worker-{new_id()}"
        self.storage.register(make_worker(id=self.id, tasks=tuple(self.tasks)))

    def enqueue(self, task_name: str, count: int = 1) -> list[str]:
        lane = "" if task_name == "free" else task_name
        # Due for long: what has just fallen due may be looked for a moment later, as clocks differ.
        jobs = [make_job(task_name=task_name, lane=lane, scheduled_at=1) for _ in range(count)]
        return [receipt.id for receipt in self.storage.enqueue(jobs)]

    def visit(self, *ended: tuple[Claim, Outcome], free: int = 4) -> Visit:
        """Settle what ended, and claim for so many free children."""
        entries = []
        for claim, outcome in ended:
            entry = Entry(1, claim, self.tasks[claim.task_name], 0.0, 0.0)
            entry.outcome = outcome
            entries.append(entry)
        wanted = want(free, tasks=tuple(self.tasks)) if free else None
        outcomes = [outcome for _, outcome in ended]
        return self.errands.visit(self.id, outcomes, self.errands.judged(entries), wanted, free)

    def claim(self, *ended: tuple[Claim, Outcome], free: int = 4) -> list[Claim]:
        return self.visit(*ended, free=free).exchange.claims

    def start_probe(self) -> Claim:
        """Take a breaker that is open through its cooldown, and one job as its probe."""
        self.breaker.clock_shift += round(OPTIONS.cooldown * 1000)
        [probe] = self.claim()
        return probe

    def state(self, task_name: str = "fragile") -> BreakerState:
        [record] = [one for one in self.breaker.read() if one.task_name == task_name]
        return record.state


@pytest.fixture
def url() -> Iterator[str]:
    name = new_id()
    yield f"memory://{name}"
    forget(name)


@pytest.fixture
def worker(url: str) -> Worker:
    return Worker(url)


@pytest.fixture
def older(worker: Worker) -> Claim:
    """An attempt that still runs although the breaker of its task has opened since, and more jobs wait."""
    worker.enqueue("fragile", 3)
    [running, first, second] = worker.claim()
    worker.claim((first, dead(first)), (second, dead(second)))
    assert worker.state() is BreakerState.OPEN
    worker.enqueue("fragile", 3)
    return running


def names(claims: Sequence[Claim]) -> list[str]:
    return sorted(claim.task_name for claim in claims)


@pytest.mark.parametrize("task_name", ["limited", "both"])
def test_a_task_gets_as_many_starts_as_there_are_tokens_and_others_go_on(
    worker: Worker, task_name: str
) -> None:
    worker.enqueue(task_name, 20)
    worker.enqueue("free", 4)

    claims = [claim for _ in range(4) for claim in worker.claim(free=2)]

    assert Counter(names(claims)) == {task_name: 3, "free": 4}


def test_a_job_that_is_refused_stays_pending_and_is_charged_nothing(worker: Worker) -> None:
    waiting = worker.enqueue("limited", 10)

    claimed = [claim.id for _ in range(5) for claim in worker.claim()]

    for job in worker.storage.get(waiting):
        if job.id not in claimed:
            assert (job.status, job.retry_count, job.crashes, job.interruptions) == (
                JobStatus.PENDING,
                0,
                0,
                0,
            )
    assert len(claimed) == 3


@pytest.mark.parametrize("task_name", ["limited", "both"])
def test_a_lane_that_must_wait_is_not_asked_for_until_its_time(worker: Worker, task_name: str) -> None:
    worker.breaker.record({"both": ((False, False), OPTIONS)})
    worker.enqueue(task_name, 10)
    worker.visit()
    asked = worker.limiter.asked

    visits = [worker.visit() for _ in range(20)]

    assert worker.limiter.asked == asked
    assert all(0 < (visit.retry_after or 0) <= gatekeeper.LONGEST_HOLD for visit in visits)
    assert not any(visit.more for visit in visits)


def test_tokens_for_which_there_is_no_job_are_given_back_at_once(worker: Worker) -> None:
    worker.enqueue("limited")

    assert len(worker.claim(free=3)) == 1

    assert worker.limiter.acquire({"limited": (3, FEW)})["limited"].granted == 2


def test_a_token_that_was_given_back_is_had_by_the_next_job(worker: Worker) -> None:
    worker.limiter.acquire({"limited": (2, FEW)})
    worker.storage.enqueue([make_job(task_name="free", priority=9, scheduled_at=1)])
    worker.enqueue("limited")
    assert names(worker.claim(free=1)) == ["free"]

    assert names(worker.claim(free=2)) == ["limited"]


def test_tokens_of_a_task_whose_breaker_is_open_are_given_back_at_once(worker: Worker) -> None:
    worker.breaker.record({"both": ((False, False), OPTIONS)})
    worker.enqueue("both", 5)

    assert worker.claim() == []

    assert worker.limiter.acquire({"both": (3, FEW)})["both"].granted == 3


def test_a_breaker_is_not_asked_for_a_probe_that_has_no_token(worker: Worker) -> None:
    worker.limiter.acquire({"both": (3, FEW)})
    worker.breaker.record({"both": ((False, False), OPTIONS)})
    worker.breaker.clock_shift = round(OPTIONS.cooldown * 1000)
    worker.enqueue("both")

    assert worker.claim() == []

    assert worker.state("both") is BreakerState.OPEN
    assert worker.breaker.admit({"both": OPTIONS})["both"].admitted


def test_a_probe_needs_a_token_although_another_task_was_first_in_turn(worker: Worker) -> None:
    worker.limiter.acquire({"both": (3, FEW)})
    worker.breaker.record({"both": ((False, False), OPTIONS)})
    worker.breaker.clock_shift = round(OPTIONS.cooldown * 1000)
    worker.enqueue("both")
    worker.enqueue("limited", 2)

    claims = [claim for _ in range(4) for claim in worker.claim(free=1)]

    assert names(claims) == ["limited", "limited"]


def test_while_the_limiter_is_away_its_tasks_wait_and_others_go_on(
    worker: Worker, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatekeeper, "TROUBLE_PAUSE", 0.01)
    worker.enqueue("limited")
    worker.enqueue("free")
    worker.limiter.away = True

    assert names(worker.claim()) == ["free"]

    worker.limiter.away = False

    wait_until(lambda: names(worker.claim()) == ["limited"])


@pytest.mark.usefixtures("older")
def test_an_open_breaker_lets_nothing_start(worker: Worker) -> None:
    assert worker.claim() == []


@pytest.mark.usefixtures("older")
def test_while_the_probe_runs_no_worker_starts_another(worker: Worker, url: str) -> None:
    worker.start_probe()
    other = Worker(url)
    other.breaker.clock_shift = worker.breaker.clock_shift

    assert worker.claim() == []
    assert other.claim() == []


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("succeeded", [True, False])
def test_the_probe_decides(worker: Worker, succeeded: bool) -> None:
    probe = worker.start_probe()

    visit = worker.visit((probe, complete(probe) if succeeded else dead(probe)))

    assert worker.state() is (BreakerState.CLOSED if succeeded else BreakerState.OPEN)
    assert visit.more is succeeded
    assert len(worker.claim()) == (2 if succeeded else 0)


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_attempt_that_is_older_than_the_probe_does_not_decide_it(
    worker: Worker, older: Claim, succeeded: bool
) -> None:
    probe = worker.start_probe()

    worker.visit((older, complete(older) if succeeded else dead(older)))
    assert worker.state() is BreakerState.HALF_OPEN
    worker.visit((probe, dead(probe) if succeeded else complete(probe)))

    assert worker.state() is (BreakerState.OPEN if succeeded else BreakerState.CLOSED)


@pytest.mark.parametrize("succeeded", [True, False])
def test_of_a_probe_and_an_older_attempt_that_end_together_the_probe_decides(
    worker: Worker, older: Claim, succeeded: bool
) -> None:
    probe = worker.start_probe()

    of_older = dead(older) if succeeded else complete(older)
    worker.visit((older, of_older), (probe, complete(probe) if succeeded else dead(probe)))

    assert worker.state() is (BreakerState.CLOSED if succeeded else BreakerState.OPEN)


def test_an_attempt_that_ends_after_the_probe_closed_the_breaker_counts_as_ever(
    worker: Worker, older: Claim
) -> None:
    probe = worker.start_probe()
    worker.visit((probe, complete(probe)), free=0)

    worker.visit((older, dead(older)), free=0)

    [record] = worker.breaker.read()
    assert (record.state, record.failures) == (BreakerState.CLOSED, 1)


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("how", ["released", "cancelled", "interrupted"])
def test_a_probe_that_ends_without_success_or_failure_leaves_its_place_at_once(
    worker: Worker, how: str
) -> None:
    probe = worker.start_probe()
    assert worker.claim() == []
    outcomes: Mapping[str, Outcome] = {
        "released": release(probe),
        "cancelled": cancelled(probe),
        "interrupted": Retry(probe.id, probe.token, 0.0, Charge.INTERRUPTION, error_info(), None),
    }

    visit = worker.visit((probe, outcomes[how]), free=0)

    assert visit.more
    assert len(worker.claim()) == 1


@pytest.mark.usefixtures("older")
def test_a_probe_whose_claim_was_lost_on_its_way_leaves_its_place_at_once(worker: Worker, url: str) -> None:
    other = Worker(url)
    worker.storage.losing = 1
    with pytest.raises(StorageUnavailable):
        worker.start_probe()

    assert other.start_probe()


@pytest.mark.usefixtures("older")
def test_the_place_of_a_probe_that_was_lost_with_its_worker_is_free_after_the_cooldown(
    worker: Worker, url: str
) -> None:
    lost = worker.start_probe()
    other = Worker(url)
    other.breaker.clock_shift = worker.breaker.clock_shift

    worker.storage.rescue({worker.id: 0})

    assert other.start_probe()
    assert other.storage.get([lost.id])[0].interruptions == 1


@pytest.mark.usefixtures("older")
def test_a_late_word_of_a_lost_probe_does_not_decide_for_the_next(worker: Worker) -> None:
    lost = worker.start_probe()
    probe = worker.start_probe()

    worker.visit((lost, dead(lost)))
    assert worker.state() is BreakerState.HALF_OPEN
    worker.visit((probe, complete(probe)))

    assert worker.state() is BreakerState.CLOSED


@pytest.mark.usefixtures("older")
def test_a_reset_by_hand_is_noticed_long_before_the_cooldown_is_over(
    worker: Worker, url: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatekeeper, "LONGEST_HOLD", 0.05)
    assert worker.claim() == []

    Worker(url).breaker.reset("fragile")

    wait_until(lambda: len(worker.claim()) == 3)


def test_after_a_reset_by_hand_what_the_probe_and_others_do_counts_as_ever(
    worker: Worker, older: Claim
) -> None:
    probe = worker.start_probe()
    worker.breaker.reset("fragile")
    worker.claim()

    worker.visit((older, dead(older)), (probe, dead(probe)))

    assert worker.state() is BreakerState.OPEN


def test_a_changed_rate_takes_effect_with_the_first_worker_that_brings_it(worker: Worker, url: str) -> None:
    worker.enqueue("limited", 20)
    worker.claim()
    other = Worker(url, limit=RateLimit(rate=5.0, burst=5))

    other.limiter.clock_shift = 1000

    assert len(other.claim(free=20)) == 5


@pytest.mark.usefixtures("older")
def test_a_changed_cooldown_takes_effect_with_the_first_worker_that_brings_it(url: str) -> None:
    other = Worker(url, options=BreakerOptions(threshold=2, cooldown=1.0))

    other.breaker.clock_shift = 1000

    assert len(other.claim()) == 1
