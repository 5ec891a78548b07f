"""When a worker looks again: the answer to every way in which a look can end."""

from __future__ import annotations

import pytest

from taskito.worker.store.timers import FALLBACK_POLL, ClaimTimer


@pytest.fixture
def looks() -> ClaimTimer:
    """After a look at 100.0 that fell short, with nothing known of what comes."""
    looks = ClaimTimer()
    looks.fell_short(100.0, None, more=False)
    return looks


def test_the_first_look_is_at_once() -> None:
    assert ClaimTimer().is_due(100.0, 0)
    assert ClaimTimer().next(0) <= 100.0


def test_without_news_a_look_comes_round(looks: ClaimTimer) -> None:
    assert not looks.is_due(100.0, 2)
    assert looks.next(2) == 100.0 + FALLBACK_POLL
    assert looks.is_due(100.0 + FALLBACK_POLL, 2)


def test_news_are_looked_for_at_once_and_once(looks: ClaimTimer) -> None:
    looks.at_once()
    assert looks.is_due(100.0, 0)

    looks.fell_short(101.0, None, more=False)
    assert not looks.is_due(101.0, 2)


def test_the_earliest_of_several_moments_counts(looks: ClaimTimer) -> None:
    for moment in (102.0, 101.0, 103.0):
        looks.by(moment)

    assert looks.next(2) == 101.0
    assert looks.is_due(101.0, 2)


@pytest.mark.parametrize(("pause", "at"), [(0.25, 100.25), (0.0, 100.0), (60.0, 100.0 + FALLBACK_POLL)])
def test_a_lane_that_is_held_up_is_asked_for_when_it_is_not(pause: float, at: float) -> None:
    looks = ClaimTimer()
    looks.fell_short(100.0, pause, more=False)

    assert looks.next(2) == at


def test_more_for_want_of_a_child_is_looked_for_when_one_is_free_and_not_before(looks: ClaimTimer) -> None:
    looks.fell_short(100.0, None, more=True)

    assert not looks.is_due(100.0, 0)
    assert looks.next(0) == 100.0 + FALLBACK_POLL
    assert looks.is_due(100.0, 1)
    assert looks.next(1) <= 100.0
