"""The admission of a worker and circuit breakers: who probes, and what it tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from conftest import WaitUntil
from taskito.worker.store import admission
from taskito_core.errors import StorageUnavailable
from taskito_core.job import Charge, Claim, Outcome, Retry, new_id
from taskito_core.limits import BreakerOptions, BreakerState
from taskito_kv.store import forget
from taskito_testing.factories import (
    cancelled,
    complete,
    dead,
    error_info,
    release,
)
from tests.worker.store.admission_bench import Worker, names


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


@pytest.mark.parametrize("task_name", ["fragile", "both"])
def test_while_a_breaker_could_open_no_more_is_claimed_than_can_begin_at_once(
    worker: Worker, task_name: str
) -> None:
    worker.enqueue(task_name, 10)
    worker.enqueue("free", 10)

    result = worker.exchange(free=2, limit=50)

    assert names(result.exchange.claims) == [*[task_name] * 2, *["free"] * 10]
    assert result.more, "and it is asked for again as soon as a child is free"


def test_nothing_is_claimed_of_a_task_by_the_exchange_that_reports_a_failure_of_it(worker: Worker) -> None:
    worker.enqueue("fragile", 10)
    first, second = worker.claim(free=2)

    both = worker.exchange((first, dead(first)), (second, dead(second)), free=2, limit=50)

    assert both.exchange.claims == []
    assert worker.state() is BreakerState.OPEN
    assert both.shut == {"fragile"}
    assert worker.claim() == []


def test_a_failure_that_does_not_open_the_breaker_costs_its_task_one_exchange(worker: Worker) -> None:
    worker.enqueue("fragile", 10)
    [first] = worker.claim(free=1)

    failed = worker.exchange((first, dead(first)), free=1, limit=50)

    assert (failed.exchange.claims, failed.more, failed.shut) == ([], True, frozenset())
    assert len(worker.claim(free=1)) == 1


def test_a_breaker_that_another_worker_opened_is_named_when_it_is_asked(worker: Worker, url: str) -> None:
    other = Worker(url)
    worker.enqueue("fragile", 10)
    held, first, second = [*other.claim(free=1), *worker.claim(free=2)]
    worker.exchange((first, dead(first)), (second, dead(second)))

    assert other.exchange().shut == {"fragile"}
    assert other.exchange((held, release(held))).exchange.recorded == {held.id}


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

    result = worker.exchange((probe, complete(probe) if succeeded else dead(probe)))

    assert worker.state() is (BreakerState.CLOSED if succeeded else BreakerState.OPEN)
    assert result.more is succeeded
    assert len(worker.claim()) == (2 if succeeded else 0)


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_attempt_that_is_older_than_the_probe_does_not_decide_it(
    worker: Worker, older: Claim, succeeded: bool
) -> None:
    probe = worker.start_probe()

    worker.exchange((older, complete(older) if succeeded else dead(older)))
    assert worker.state() is BreakerState.HALF_OPEN
    worker.exchange((probe, dead(probe) if succeeded else complete(probe)))

    assert worker.state() is (BreakerState.OPEN if succeeded else BreakerState.CLOSED)


@pytest.mark.parametrize("succeeded", [True, False])
def test_of_a_probe_and_an_older_attempt_that_end_together_the_probe_decides(
    worker: Worker, older: Claim, succeeded: bool
) -> None:
    probe = worker.start_probe()

    of_older = dead(older) if succeeded else complete(older)
    worker.exchange((older, of_older), (probe, complete(probe) if succeeded else dead(probe)))

    assert worker.state() is (BreakerState.CLOSED if succeeded else BreakerState.OPEN)


def test_an_attempt_that_ends_after_the_probe_closed_the_breaker_counts_as_ever(
    worker: Worker, older: Claim
) -> None:
    probe = worker.start_probe()
    worker.exchange((probe, complete(probe)), free=0)

    worker.exchange((older, dead(older)), free=0)

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

    result = worker.exchange((probe, outcomes[how]), free=0)

    assert result.more
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

    worker.exchange((lost, dead(lost)))
    assert worker.state() is BreakerState.HALF_OPEN
    worker.exchange((probe, complete(probe)))

    assert worker.state() is BreakerState.CLOSED


@pytest.mark.usefixtures("older")
def test_a_reset_by_hand_is_noticed_long_before_the_cooldown_is_over(
    worker: Worker, url: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LONGEST_HOLD", 0.05)
    assert worker.claim() == []

    Worker(url).breaker.reset("fragile")

    wait_until(lambda: len(worker.claim()) == 3)


def test_after_a_reset_by_hand_what_the_probe_and_others_do_counts_as_ever(
    worker: Worker, older: Claim
) -> None:
    probe = worker.start_probe()
    worker.breaker.reset("fragile")
    worker.claim()

    worker.exchange((older, dead(older)), (probe, dead(probe)))

    assert worker.state() is BreakerState.OPEN


@pytest.mark.usefixtures("older")
def test_a_changed_cooldown_takes_effect_with_the_first_worker_that_brings_it(url: str) -> None:
    other = Worker(url, options=BreakerOptions(threshold=2, cooldown=1.0))

    other.breaker.clock_shift = 1000

    assert len(other.claim()) == 1
