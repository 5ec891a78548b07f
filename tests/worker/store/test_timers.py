"""When a worker timer again: the answer to every way in which a look can end."""

from __future__ import annotations

import pytest

from taskito.worker.store.timers import FALLBACK_POLL, INTERVALS, ClaimTimer, Upkeep, UpkeepTimers


@pytest.fixture
def timer() -> ClaimTimer:
    """After a claim at 100.0 that fell short, with nothing known of what comes."""
    timer = ClaimTimer()
    timer.fell_short(100.0, None, more=False)
    return timer


def test_the_first_claim_is_at_once() -> None:
    assert ClaimTimer().is_due(100.0, 0)
    assert ClaimTimer().next(0) <= 100.0


def test_without_a_wakeup_a_claim_comes_round(timer: ClaimTimer) -> None:
    assert not timer.is_due(100.0, 2)
    assert timer.next(2) == 100.0 + FALLBACK_POLL
    assert timer.is_due(100.0 + FALLBACK_POLL, 2)


def test_a_wakeup_leads_to_a_claim_at_once_and_once(timer: ClaimTimer) -> None:
    timer.at_once()
    assert timer.is_due(100.0, 0)

    timer.fell_short(101.0, None, more=False)
    assert not timer.is_due(101.0, 2)


def test_the_earliest_of_several_moments_counts(timer: ClaimTimer) -> None:
    for moment in (102.0, 101.0, 103.0):
        timer.by(moment)

    assert timer.next(2) == 101.0
    assert timer.is_due(101.0, 2)


@pytest.mark.parametrize(("pause", "at"), [(0.25, 100.25), (0.0, 100.0), (60.0, 100.0 + FALLBACK_POLL)])
def test_a_lane_that_is_held_up_is_asked_for_when_it_is_not(pause: float, at: float) -> None:
    timer = ClaimTimer()
    timer.fell_short(100.0, pause, more=False)

    assert timer.next(2) == at


def test_more_for_want_of_a_child_is_claimed_when_one_is_free_and_not_before(timer: ClaimTimer) -> None:
    timer.fell_short(100.0, None, more=True)

    assert not timer.is_due(100.0, 0)
    assert timer.next(0) == 100.0 + FALLBACK_POLL
    assert timer.is_due(100.0, 1)
    assert timer.next(1) <= 100.0


def test_every_kind_of_upkeep_is_due_at_first_and_then_after_its_interval():
    timers = UpkeepTimers()
    done = []

    while (kind := timers.due(100.0)) is not None:
        done.append(kind)
        timers.done(kind, 100.0)

    assert sorted(done) == sorted(Upkeep)
    assert timers.next() == 100.0 + min(INTERVALS.values())


@pytest.mark.parametrize(
    ("pause", "due"), [(0.5, 100.5), (-3.0, 100.0), (1e9, 100.0 + INTERVALS[Upkeep.SWEEP])]
)
def test_upkeep_comes_sooner_if_something_is_known_and_never_later_than_its_interval(pause, due):
    timers = UpkeepTimers()
    for kind in Upkeep:
        timers.done(kind, 1000.0)

    timers.done(Upkeep.SWEEP, 100.0, pause)

    assert timers.next() == due


def test_what_becomes_known_later_moves_upkeep_forward_and_never_back():
    timers = UpkeepTimers()
    for kind in Upkeep:
        timers.done(kind, 100.0)

    timers.sooner(Upkeep.FIRE, 101.0)
    timers.sooner(Upkeep.FIRE, 150.0)

    assert timers.due(101.0) is Upkeep.FIRE
