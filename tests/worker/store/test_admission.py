"""The admission of a worker and rate limits: what it asks for, and gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from conftest import WaitUntil
from taskito.worker.store import admission
from taskito_core.job import JobStatus, new_id
from taskito_core.limits import BreakerState, RateLimit
from taskito_kv.store import forget
from taskito_testing.factories import (
    make_job,
)
from tests.worker.store.admission_bench import FEW, OPTIONS, Worker, names


@pytest.fixture
def url() -> Iterator[str]:
    name = new_id()
    yield f"memory://{name}"
    forget(name)


@pytest.fixture
def worker(url: str) -> Worker:
    return Worker(url)


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
    worker.exchange()
    asked = worker.limiter.asked

    results = [worker.exchange() for _ in range(20)]

    assert worker.limiter.asked == asked
    assert all(0 < (result.retry_after or 0) <= admission.LONGEST_HOLD for result in results)
    assert not any(result.more for result in results)


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
    monkeypatch.setattr(admission, "TROUBLE_PAUSE", 0.01)
    worker.enqueue("limited")
    worker.enqueue("free")
    worker.limiter.away = True

    assert names(worker.claim()) == ["free"]

    worker.limiter.away = False

    wait_until(lambda: names(worker.claim()) == ["limited"])


def test_a_changed_rate_takes_effect_with_the_first_worker_that_brings_it(worker: Worker, url: str) -> None:
    worker.enqueue("limited", 20)
    worker.claim()
    other = Worker(url, limit=RateLimit(rate=5.0, burst=5))

    other.limiter.clock_shift = 1000

    assert len(other.claim(free=20)) == 5
